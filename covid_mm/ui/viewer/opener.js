// Loaded with the page, with element and props from Gradio's HTML component: opens the viewer, whose scripts come
// with its first opening, and brings it frames from the server, one answer after the other.
const page = (window.covidMM ??= { slots: {}, version: 0, pending: new Set() });
const texts = props.texts[document.documentElement.lang] ?? props.texts.en;
const MODALITIES = ["ct", "xray"];
const REST = 400; // ms on one slice
const WAIT = 120000; // ms for an answer, which may have to queue
let loading = null; // the viewer itself, once asked for
let number = 0;
let current = null; // the request under way
const queue = [];

function load() {
  const root = (window.gradio_config?.root ?? location.origin).replace(/[/]$/, "");
  const address = `${root}${props.scripts}`;
  loading ??= (async () => {
    await import(`${address}/openseadragon.min.js`);
    const { Viewer } = await import(`${address}/viewer.js`);
    return new Viewer(element.querySelector(".mm-viewer"), texts, page);
  })().catch((error) => {
    loading = null; // the next press tries again
    throw error;
  });
  return loading;
}

function next() {
  if (current || !queue.length) return;
  current = queue.shift();
  current.timer = setTimeout(() => page.viewer.delivered({ failed: true }), WAIT);
  document.querySelector("#mm-frames").click();
}

page.viewer = {
  // Opens the images in the slots, that of the modality active first; or those that `kept`, a study of the list, shows.
  async open(modality, kept = null) {
    try {
      (await load()).open(modality, kept);
    } catch (error) {
      console.error(error);
      window.alert(texts.missing);
    }
  },
  // Frames of a slot's file, or of the open study of the list: { modality, frames, window, level, width } -> what
  // `read_frames` gives.
  fetchFrames(asked) {
    const { listed } = page;
    const choice = listed ? listed.files[asked.modality] : page.slots[asked.modality]?.choice();
    const { series, folder } = choice ?? {}; // of several series in one upload; of what a folder held
    const request = { series, folder, ...asked, listed: listed?.number };
    return new Promise((resolve, reject) => {
      queue.push({ request, resolve, reject });
      next();
    });
  },
  // What Gradio sends for the hidden button: the file of the one modality, and the request.
  asked() {
    number += 1;
    const { request } = current;
    const own = (name) => name === request.modality && !request.listed;
    const files = MODALITIES.map((name) => (own(name) ? page.slots[name]?.value() ?? null : null));
    return [...files, { ...request, number }];
  },
  delivered(answer) {
    if (!current || (answer.number !== undefined && answer.number !== number)) return;
    const { resolve, reject, timer } = current;
    clearTimeout(timer);
    current = null;
    if (answer.pictures) resolve(answer);
    else reject(new Error(answer.error ?? texts.unanswered));
    next();
  },
  // A stack of n pictures in place of the slot's own frames, until the slot's file changes: urlOf(k) gives the address
  // of slice k (from 0), or a promise of it; index: the slice shown first.
  async setStack(modality, n, urlOf, index = 0) {
    (await load()).setStack(modality, n, urlOf, index);
  },
  // Shows slice k, here and wherever `mm-slice` is heard: an event of document, its detail { modality, index }.
  async show(modality, k) {
    (await load()).show(modality, k);
  },
};

// Of a scan the result follows, and draws the map of the slice at which one rests.
let resting = null;
document.addEventListener("mm-slice", ({ detail: { modality, index } }) => {
  clearTimeout(resting);
  if (modality === "ct") resting = setTimeout(() => page.series?.show(index), REST);
});

document.addEventListener("click", (event) => {
  const opener = event.target.closest?.("[data-view]");
  if (opener) page.viewer.open(opener.dataset.view, opener.closest(".mm-kept"));
});
