// The slices of a scan in the result: slider, wheel, curve and thumbnails show slice k, first its image, then its map.
() => {
  const page = (window.covidMM ??= { slots: {}, version: 0, pending: new Set() });
  const REST = 350; // ms without another step until the map is asked for
  const root = () => page.shown()?.querySelector(".mm-series");
  const view = () => page.shown()?.querySelector(".mm-view[data-modality=ct]");
  const fill = (text, values) => text.replace(/\{(\w+)\}/g, (_, key) => values[key]);
  const read = (series) => (series.facts ??= JSON.parse(series.dataset.series));
  // Nothing to draw another slice from: other files lie in the slots, or the study's own are gone.
  const isOld = () => page.shown()?.matches(".mm-stale, .mm-busy") || (page.listed && !page.listed.files?.ct);
  let resting = null;
  let pictures = new Map(); // slice -> address of its image, of the answer that is shown
  let owner = null; // whose pictures these are

  // The slice that is shown, undefined where there is no scan: heatmaps are asked for it alone.
  const chosen = () => (root() ? Number(root().dataset.index) : undefined);

  function write(series, index) {
    const { probabilities, positions, shown, window: grey, words, decimal } = read(series);
    series.dataset.index = index;
    view().dataset.slice = index;
    const count = Number(series.dataset.count);
    const at = positions[index] === null ? "" : `, ${positions[index].toFixed(1).replace(".", decimal)} mm`;
    const said = probabilities[index] === null ? words.none : fill(words.lung, { shown: shown[index] });
    const name = fill(words.slice, { number: index + 1, total: count });
    const through = grey ? `, ${fill(words.window, { level: grey[0], width: grey[1] })}` : "";
    series.querySelector(".mm-series-number").textContent = `${name}${at}${through}`;
    series.querySelector(".mm-series-value").textContent = said;
    const slider = series.querySelector(".mm-series-slider");
    slider.value = index + 1;
    slider.setAttribute("aria-valuetext", `${name}${at}, ${said}`);
    const marker = series.querySelector(".mm-series-marker");
    for (const end of ["x1", "x2"]) marker.setAttribute(end, index + 0.5);
    for (const button of view().querySelectorAll(".mm-series-thumbnails [data-slice]")) {
      button.toggleAttribute("aria-current", Number(button.dataset.slice) === index);
      if (Number(button.dataset.slice) === index) button.setAttribute("aria-current", "true");
    }
  }

  function show(index) {
    const series = root();
    if (!series || isOld()) return;
    const next = Math.min(Math.max(index, 0), Number(series.dataset.count) - 1);
    if (next === chosen()) return;
    write(series, next);
    view().classList.add("mm-undrawn");
    document.dispatchEvent(new CustomEvent("mm-series", { detail: { modality: "ct", index: next } }));
    draw(series, next);
    clearTimeout(resting);
    resting = setTimeout(() => {
      if (root() !== series || chosen() !== next || read(series).probabilities[next] === null) return;
      page.explainSlice?.(read(series).words.drawing);
    }, REST);
  }

  // The slice's own picture, at full resolution, with its neighbours for the next step.
  async function draw(series, index) {
    if (owner !== series) [owner, pictures] = [series, new Map()];
    if (!pictures.has(index)) {
      const near = [index, index + 1, index - 1, index + 2, index - 2];
      const frames = near.filter((k) => k >= 0 && k < Number(series.dataset.count) && !pictures.has(k));
      const { window: grey, level, width } = (page.listed ? page.listed.files.ct : page.slots.ct?.choice()) ?? {};
      try {
        const answer = await page.viewer.fetchFrames({ modality: "ct", frames, window: grey, level, width });
        if (owner !== series) return;
        for (const [k, { url }] of Object.entries(answer.pictures)) pictures.set(Number(k), url);
      } catch {
        return; // the line under the map says what the server could not do
      }
    }
    if (root() === series && chosen() === index && pictures.has(index)) place(pictures.get(index));
  }
  function place(url) {
    for (const image of view()?.querySelectorAll(".mm-stack > img:not(.mm-layer)") ?? []) image.src = url;
  }

  page.series = {
    chosen,
    show,
    // The maps of one slice have come: its picture and outlines belong to them.
    drawn(slice) {
      if (!root() || slice.index !== chosen()) return;
      const stacks = view().querySelectorAll(".mm-stack");
      stacks.forEach((stack, number) => {
        stack.querySelector(".mm-outline")?.remove();
        stack.querySelector("img").insertAdjacentHTML("afterend", number ? slice.outline : slice.read_outline);
        stack.querySelector(".mm-layer")?.after(stack.querySelector(".mm-outline") ?? "");
      });
      place(pictures.get(slice.index) ?? slice.url);
      view().classList.remove("mm-undrawn");
    },
    stopped() {
      document.querySelector("#mm-result")?.classList.remove("mm-busy");
      document.querySelector("#mm-analyse")?.removeAttribute("aria-busy");
      page.version += 1; // the next press is a new analysis
      page.changed();
    },
  };

  document.addEventListener("input", (event) => {
    if (event.target.matches?.(".mm-series-slider")) show(Number(event.target.value) - 1);
  });
  const jump = (event) => {
    const plot = event.target.closest?.(".mm-series-plot");
    if (!plot || !page.shown()?.contains(plot)) return;
    const { left, width } = plot.getBoundingClientRect();
    show(Math.floor(((event.clientX - left) / width) * Number(root().dataset.count)));
  };
  document.addEventListener("pointerdown", jump);
  document.addEventListener("pointermove", (event) => event.buttons === 1 && jump(event));
  document.addEventListener(
    "wheel",
    (event) => {
      const over = event.target.closest?.(".mm-series-plot, .mm-series-slider");
      if (!over || !event.deltaY) return;
      event.preventDefault();
      show(chosen() + Math.sign(event.deltaY));
    },
    { passive: false },
  );
  document.addEventListener("click", (event) => {
    const button = event.target.closest?.(".mm-series-thumbnails [data-slice]");
    if (button) show(Number(button.dataset.slice));
  });
}
