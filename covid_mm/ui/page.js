// The page's own behaviour: Enter analyses, paste fills a slot, examples, light and dark,
// and an answer that no longer belongs to the images in the slots is marked as such.
() => {
  const page = (window.covidMM ??= { slots: {}, version: 0, pending: new Set() });
  const find = (selector) => document.querySelector(selector);
  const result = () => find("#mm-result");
  let analysed = -1;
  page.finishes = 0; // answers and clearings so far
  // What is read: a study of the list, where one is open, else the answer to the slots.
  page.shown = () => find("#mm-answer-column.mm-shows-kept .mm-kept") ?? result();

  page.changed = () => result()?.classList.toggle("mm-stale", page.version !== analysed && !!find(".mm-answer"));
  const values = () => ["ct", "xray"].map((modality) => page.slots[modality]?.value() ?? null);
  page.slices = () =>
    Object.fromEntries(Object.entries(page.slots).map(([modality, slot]) => [modality, slot.choice()]));
  // Waits for uploads that are still on their way, then hands Gradio the two values.
  page.collect = async () => {
    page.beginStudy?.();
    analysed = page.version;
    find("#mm-analyse")?.setAttribute("aria-busy", "true");
    result()?.classList.add("mm-busy");
    await Promise.allSettled([...page.pending]);
    return values();
  };
  // Another network was chosen: what is shown was not its answer.
  page.replaced = () => {
    page.version += 1;
    page.changed();
  };
  // Each file goes into the other slot, and the study is analysed again.
  page.swap = async () => {
    const { ct, xray } = page.slots;
    const [first, second] = [ct.file(), xray.file()];
    for (const slot of [ct, xray]) slot.forget();
    await Promise.all([second && ct.take(second), first && xray.take(first)]);
    find("#mm-analyse")?.click();
  };
  page.clear = () => {
    const before = values();
    for (const slot of Object.values(page.slots)) slot.forget();
    analysed = page.version;
    return before;
  };
  page.finished = () => {
    page.finishes += 1;
    page.answered?.();
    page.refreshWorklist?.();
    find("#mm-analyse")?.removeAttribute("aria-busy");
    result()?.classList.remove("mm-busy", "mm-unanswered");
    page.changed();
    const top = result()?.getBoundingClientRect().top ?? 0;
    if (top > window.innerHeight - 120) result().scrollIntoView({ behavior: "smooth", block: "start" });
  };
  page.failed = () => {
    const text = find("#mm-result .mm-sr");
    if (text) text.textContent = find("#mm-result .mm-unanswered-note")?.textContent ?? "";
    result()?.classList.add("mm-unanswered");
  };

  // The left column stays beside a long result: by its top, or, where it is taller than the window, by its end.
  const keepInSight = () => {
    const study = find("#mm-study");
    study?.style.setProperty("--study-top", `${Math.min(12, window.innerHeight - study.offsetHeight - 12)}px`);
  };
  new ResizeObserver(keepInSight).observe(document.body);

  document.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.isComposing || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest?.("button, a, textarea, select, summary, dialog, [contenteditable=true]")) return;
    if (!find("#mm-analyse")?.offsetParent) return; // another tab is open
    event.preventDefault();
    find("#mm-analyse").click();
  });

  // Pressed twice with nothing changed in between: one analysis is enough.
  document.addEventListener(
    "click",
    (event) => {
      const button = event.target.closest?.("#mm-analyse[aria-busy=true]");
      if (button && page.version === analysed) event.stopImmediatePropagation();
    },
    true, // before Gradio's own listener
  );

  document.addEventListener("paste", (event) => {
    if (page.batch?.isOpen?.()) {
      page.batch.take(event.clipboardData?.files ?? []);
      return;
    }
    const file = [...(event.clipboardData?.files ?? [])].find((item) => /^image[/]|dicom|^$/.test(item.type));
    if (!file) return;
    const slots = Object.values(page.slots);
    const target = slots.find((slot) => slot.hasFocus()) ?? slots.find((slot) => slot.isEmpty()) ?? slots[0];
    target?.take(file);
  });

  // A file dropped beside a slot must not replace the page.
  for (const name of ["dragover", "drop"]) document.addEventListener(name, (event) => event.preventDefault());

  document.addEventListener("click", (event) => {
    const example = event.target.closest?.(".mm-example");
    if (example) {
      for (const modality of ["ct", "xray"]) {
        const picture = example.querySelector(`img[data-modality=${modality}]`);
        if (!picture) continue;
        const [head, body] = picture.src.split(",");
        const bytes = Uint8Array.from(atob(body), (letter) => letter.charCodeAt(0));
        page.slots[modality]?.take(new File([bytes], "image", { type: head.slice(5, head.indexOf(";")) }));
      }
      find("#mm-analyse")?.focus();
    }
    if (event.target.closest?.(".mm-swap")) page.swap();
    if (event.target.closest?.("#mm-theme")) {
      const dark = document.body.classList.toggle("dark");
      find("#mm-theme").setAttribute("aria-pressed", String(dark));
    }
  });
  find("#mm-theme")?.setAttribute("aria-pressed", String(document.body.classList.contains("dark")));
  // Where the browser's language is none of the page's, Gradio's own words are in it and ours in English.
  const brand = find(".mm-brand");
  document.title = brand?.dataset.title ?? document.title;
  for (const part of ["#mm-header", "#mm-tabs"]) find(part)?.setAttribute("lang", brand?.lang ?? "en");
}
