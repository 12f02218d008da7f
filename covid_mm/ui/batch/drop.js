// Runs once, with element, props and upload from Gradio's HTML component. Files are uploaded without
// their names; the names travel beside them, in the request that pairs or runs them.
const batch = (page.batch ??= {});
const slot = element.querySelector(".mm-batch-slot");
const input = element.querySelector(".mm-batch-input");
const drop = element.querySelector(".mm-batch-drop");
const state = element.querySelector(".mm-batch-state");
const note = element.querySelector(".mm-slot-note");
const PARALLEL = 3; // uploads on their way at once
let sent = []; // Gradio's file objects, each with its owner's name
let unsent = []; // names of images that are too large
let leaving = []; // what is to be deleted on the server
let round = 0; // counts beginnings, so that a slow upload never lands in a later set

const find = (selector) => document.querySelector(selector);

const isBusy = () => ["sending", "pairing", "running"].includes(batch.phase); // no files are taken

// empty, sending, pairing, ready, blocked, running, ended
batch.setPhase = (phase) => {
  batch.phase = slot.dataset.state = phase;
  const allow = (id, allowed) => {
    const button = find(id);
    if (button) button.disabled = !allowed;
  };
  allow("#mm-batch-run", phase === "ready");
  allow("#mm-batch-cancel", phase === "running");
  if (!find("#mm-batch-run")) requestAnimationFrame(() => batch.setPhase(batch.phase)); // not drawn yet
  input.disabled = isBusy();
};

function forget() {
  round += 1;
  leaving = sent;
  sent = [];
  unsent = [];
  input.value = "";
  state.textContent = note.textContent = "";
  if (leaving.length) find("#mm-batch-delete")?.click();
}

function isArchive(file) {
  return /\.zip$/i.test(file.name) || /zip/.test(file.type);
}

// files: File objects, or {file, name} where the name holds a folder.
async function take(files) {
  if (isBusy()) return;
  const added = [...files].map((item) => (item.file ? item : { file: item, name: item.webkitRelativePath || item.name }));
  if (!added.length) return;
  if (batch.phase === "ended") forget();
  note.textContent = "";
  const total = sent.length + unsent.length + added.length;
  const archive = added.find(({ file }) => isArchive(file) && file.size > props.max_bytes);
  if (total > props.max_files || archive) {
    note.textContent = archive
      ? fill(texts.large, { limit: Math.floor(props.max_bytes / 1048576) })
      : fill(texts.many, { total, limit: props.max_files });
    input.value = "";
    return;
  }
  round += 1;
  const mine = round;
  batch.setPhase("sending");
  const small = added.filter(({ file, name }) => {
    const fits = isArchive(file) || file.size <= props.max_image_bytes;
    if (!fits) unsent.push(name);
    return fits;
  });
  const waiting = [...small];
  let done = 0;
  const show = () => (state.textContent = fill(texts.sending, { done, total: small.length }));
  const work = async () => {
    for (let item = waiting.shift(); item && mine === round; item = waiting.shift()) {
      const { path } = await upload(new File([item.file], "image", { type: item.file.type }));
      if (mine !== round) return;
      sent.push({ path, orig_name: item.name, meta: { _type: "gradio.FileData" } });
      done += 1;
      show();
    }
  };
  show();
  try {
    await Promise.all(Array.from({ length: PARALLEL }, work));
  } catch {
    if (mine !== round) return;
    forget();
    batch.setPhase("empty");
    note.textContent = texts.unsent;
    return;
  }
  if (mine !== round) return;
  input.value = "";
  const all = sent.length + unsent.length;
  state.textContent = fill(all === 1 ? texts.one : texts.several, { total: all });
  batch.setPhase("pairing");
  batch.message(texts.pairing);
  find("#mm-batch-pair")?.click();
}

async function takeDropped(given) {
  const plain = [...given.files];
  take((await readFolders(given, props.max_files)) ?? plain);
}
acceptFiles({ slot, input, drop, chosen: take, dropped: takeDropped });

Object.assign(batch, {
  take,
  isOpen: () => element.offsetParent !== null,
  ask: () => [sent, unsent],
  leave: () => [leaving],
  start: () => {
    batch.setPhase("running");
    page.beginStudy?.();
    batch.begin();
    return [sent, unsent];
  },
  // The run has ended, one way or another: its files are deleted.
  close: () => {
    forget();
    batch.setPhase("ended");
  },
  clear: () => {
    forget();
    batch.setPhase("empty");
    batch.reset();
  },
});
batch.setPhase("empty");
