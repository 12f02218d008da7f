// Runs once a slot, with element, props and upload from Gradio's HTML component.
// The image is previewed from the browser's own copy and uploaded without its name. The slot keeps
// its value itself; page.js hands it to Gradio when a button is pressed.
const slot = element.querySelector(".mm-slot");
const input = element.querySelector(".mm-slot-input");
const drop = element.querySelector(".mm-slot-drop");
const preview = element.querySelector(".mm-slot-preview");
const note = element.querySelector(".mm-slot-note");
const MOST_LISTED = 5000; // files of a folder that are looked at
let chosen = null; // the file itself, for a swap of the two slots
let value = null; // Gradio's file object, as soon as the upload has arrived
let number = 0; // counts the files, so that a slow upload never replaces a later one

const dicom = element.querySelector(".mm-slot-dicom");
const controls = Object.fromEntries(
  ["window", "level", "width", "slice", "series", "alone"].map((name) => [name, element.querySelector(`.mm-slot-${name}`)]),
);
let scan = false; // whether the slot holds a whole CT scan
let asking = null; // the choice that a series or folder just chosen begins with
let choice = null; // what the controls of a DICOM file ask for; null for other images

function show(state, text = "") {
  slot.dataset.state = state;
  note.textContent = text;
}

function changed() {
  page.version += 1;
  page.changed?.();
}

function forget() {
  number += 1;
  if (preview.src) URL.revokeObjectURL(preview.src);
  preview.removeAttribute("src");
  preview.hidden = true;
  input.value = "";
  value = null;
  chosen = null;
  choice = asking = null;
  scan = false;
  dicom.hidden = true;
  show("empty");
}

const toMegabytes = (bytes) => Math.floor(bytes / 1048576);
// One file, or the files of a DICOM series; folder: whether they were all that a folder holds of a scan.
async function take(given, folder = false) {
  const files = Array.isArray(given) ? given : [given].filter(Boolean);
  if (!files.length) return;
  forget();
  changed();
  const most = (file) => (/^image[/](png|jpe?g)$/.test(file.type) ? props.max_image_bytes : props.max_bytes);
  const large = files.find((file) => file.size > most(file));
  const size = files.reduce((sum, file) => sum + file.size, 0);
  const counts = { count: files.length, limit: props.max_files };
  if (files.length > props.max_files) show("empty", fill(texts.many, counts));
  else if (large) show("empty", fill(texts.large, { limit: toMegabytes(most(large)) }));
  else if (size > props.max_bytes) show("empty", fill(texts.heavy, { size: toMegabytes(size), limit: toMegabytes(props.max_bytes) }));
  if (note.textContent) return;
  if (folder) asking = { folder };
  const mine = number;
  const series = files.length > 1; // the browser draws no DICOM
  chosen = series ? files : files[0];
  if (!series) {
    preview.src = URL.createObjectURL(files[0]);
    preview.hidden = false;
  }
  show("sending");
  const task = send(files, () => mine === number)
    .then((sent) => {
      if (mine !== number) return;
      value = series ? sent : sent[0];
      const broken = series || slot.dataset.state === "broken";
      show(broken ? "broken" : "ready", series ? texts.checking : "");
      if (broken) askServer();
    })
    .catch(() => {
      if (mine !== number) return;
      forget();
      show("empty", texts.unsent);
    })
    .finally(() => page.pending.delete(task));
  page.pending.add(task);
  await task;
}

// Four at a time, without their names; Gradio's file objects in the files' order.
async function send(files, stillHere) {
  const sent = new Array(files.length);
  let next = 0;
  const work = async () => {
    while (next < files.length && stillHere()) {
      const mine = next;
      next += 1;
      const file = files[mine];
      const { path } = await upload(new File([file], "image", { type: file.type }));
      sent[mine] = {
        path, url: null, size: file.size, orig_name: null, mime_type: null, is_stream: false,
        meta: { _type: "gradio.FileData" },
      };
      if (files.length > 1) note.textContent = `${sent.filter(Boolean).length} / ${files.length}`;
    }
  };
  await Promise.all([work(), work(), work(), work()]);
  note.textContent = "";
  return sent;
}

// A folder: the DICOM files in it, or else its one volume or archive; what systems and viewers put beside them is left out.
async function takeFolder(items) {
  const named = items.filter(({ name }) => !/(^|[/])([.]|__MACOSX|thumbs[.]db$|desktop[.]ini$|dicomdir$)/i.test(name));
  const volumes = named.filter(({ name }) => /[.](nii|nii[.]gz|zip)$/i.test(name)).map(({ file }) => file);
  const mine = (number += 1);
  show("sending", texts.looking);
  const slices = [];
  for (const { file } of named) {
    if (slices.length > props.max_files || mine !== number) break;
    if ((await file.slice(128, 132).text()) === "DICM") slices.push(file);
  }
  if (mine !== number) return;
  if (slices.length) take(slices, true);
  else if (volumes.length === 1) take(volumes);
  else {
    forget();
    show("empty", texts.none);
  }
}

preview.addEventListener("error", () => {
  if (!preview.getAttribute("src")) return;
  preview.hidden = true;
  show("broken");
  if (value) askServer();
});

// The browser cannot draw DICOM: the server does, through the chosen window.
function askServer() {
  document.querySelector(`#mm-preview-${props.modality}`)?.click();
}

function showPreview(answer) {
  if (!value || answer?.number !== number) return; // of a file that is no longer here
  if (answer.error) {
    show("broken", answer.error);
    return;
  }
  if (!answer.url) return;
  preview.src = answer.url;
  preview.hidden = false;
  show("ready");
  if (!choice) {
    choice = { window: answer.windows.includes("lung") ? "lung" : answer.windows[0], frame: answer.frame };
    Object.assign(choice, asking && { series: asking.series, folder: asking.folder });
    asking = null;
    controls.window.replaceChildren(...answer.windows.map((name) => new Option(texts[name] ?? name, name)));
    controls.window.value = choice.window;
    const [low, high] = answer.range;
    Object.assign(controls.level, { min: low, max: high, step: (high - low) / 240 });
    Object.assign(controls.width, { min: 1, max: 1.5 * (high - low), step: (high - low) / 240 });
    controls.level.value = answer.level ?? (low + high) / 2;
    controls.width.value = answer.width ?? high - low;
    controls.slice.max = answer.frames - 1;
    controls.slice.value = answer.frame;
    controls.alone.checked = false;
    scan = answer.scan === true && answer.frames > 1;
    listSeries(answer);
    dicom.hidden = false;
  }
  writeControls(answer.frames);
}

// Of several series in a scan's files: the chest first, another by choice.
function listSeries({ series = [], chosen = 0 }) {
  controls.series.closest("label").hidden = series.length < 2;
  controls.series.replaceChildren(
    ...series.map(({ slices, spacing }, row) => {
      const text = fill(texts.series, { number: row + 1, slices }) + (spacing ? fill(texts.apart, { spacing }) : "");
      return new Option(text, row, row === chosen, row === chosen);
    }),
  );
}

function writeControls(frames) {
  const free = choice.window === "free";
  for (const label of dicom.querySelectorAll(".mm-slot-free")) label.hidden = !free;
  dicom.querySelector(".mm-slot-slices").hidden = frames < 2;
  controls.alone.closest("label").hidden = !scan;
  const write = (control, text) => (control.closest("label").querySelector("output").value = text);
  write(controls.level, Math.round(controls.level.value));
  write(controls.width, Math.round(controls.width.value));
  write(controls.slice, fill(texts.of, { number: Number(controls.slice.value) + 1, total: frames }));
}

let waiting = null;
function choose(event) {
  choice = { window: controls.window.value, frame: Number(controls.slice.value), folder: choice.folder };
  if (scan) Object.assign(choice, { alone: controls.alone.checked, series: Number(controls.series.value || 0) });
  if (choice.window === "free") Object.assign(choice, { level: Number(controls.level.value), width: Number(controls.width.value) });
  writeControls(Number(controls.slice.max) + 1);
  // a whole scan's answer does not go by the slice that is looked at
  if (!scan || choice.alone || event?.target !== controls.slice) changed();
  if (event?.target === controls.series) {
    const { window: grey, series, folder } = choice;
    choice = null; // another series, other slices
    asking = { window: grey, series, folder };
  }
  clearTimeout(waiting);
  waiting = setTimeout(askServer, 60);
}
for (const control of Object.values(controls)) control.addEventListener("input", choose);
element.querySelector(".mm-slot-remove").addEventListener("click", () => {
  forget();
  changed();
  input.focus();
});
const isEmpty = () => slot.dataset.state === "empty";
async function takeDropped(given) {
  const plain = [...given.files];
  const items = props.folders ? await readFolders(given, MOST_LISTED) : null;
  if (items) takeFolder(items);
  else take(plain);
}
acceptFiles({ slot, input, drop, opens: isEmpty, chosen: (files) => take(files), dropped: takeDropped });
const folderInput = element.querySelector(".mm-slot-folder-input");
const folderButton = element.querySelector(".mm-slot-folder");
if (folderInput && "webkitdirectory" in folderInput) {
  folderButton.hidden = false; // a phone's browser may know no folders
  folderButton.addEventListener("click", () => folderInput.click());
  folderInput.addEventListener("change", () => {
    const items = [...folderInput.files].map((file) => ({ file, name: file.webkitRelativePath }));
    folderInput.value = "";
    takeFolder(items);
  });
}
page.slots[props.modality] = {
  take,
  forget,
  value: () => value,
  file: () => chosen,
  choice: () => choice,
  ask: () => [value, { [props.modality]: choice ?? asking, number }],
  show: showPreview,
  isEmpty,
  hasFocus: () => slot.contains(document.activeElement),
};
