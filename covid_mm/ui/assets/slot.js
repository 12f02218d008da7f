// Runs once a slot, with element, props and upload from Gradio's HTML component.
// The image is previewed from the browser's own copy and uploaded without its name. The slot keeps
// its value itself; page.js hands it to Gradio when a button is pressed.
const page = (window.covidMM ??= { slots: {}, version: 0, pending: new Set() });
const slot = element.querySelector(".mm-slot");
const input = element.querySelector(".mm-slot-input");
const drop = element.querySelector(".mm-slot-drop");
const preview = element.querySelector(".mm-slot-preview");
const note = element.querySelector(".mm-slot-note");
let value = null; // Gradio's file object, as soon as the upload has arrived
let turn = 0; // counts the files, so that a slow upload never replaces a later one

function show(state, text = "") {
  slot.dataset.state = state;
  note.textContent = text;
}

function changed() {
  page.version += 1;
  page.changed?.();
}

function forget() {
  turn += 1;
  if (preview.src) URL.revokeObjectURL(preview.src);
  preview.removeAttribute("src");
  preview.hidden = true;
  input.value = "";
  value = null;
  show("empty");
}

async function take(file) {
  if (!file) return;
  forget();
  changed();
  if (file.size > props.max_bytes) {
    show("empty", `This file is larger than ${Math.floor(props.max_bytes / 1048576)} MB; scale it down or save it as JPEG.`);
    return;
  }
  const mine = turn;
  preview.src = URL.createObjectURL(file);
  preview.hidden = false;
  show("sending");
  const task = upload(new File([file], "image", { type: file.type }))
    .then(({ path }) => {
      if (mine !== turn) return;
      value = {
        path, url: null, size: file.size, orig_name: null, mime_type: null, is_stream: false,
        meta: { _type: "gradio.FileData" },
      };
      show(slot.dataset.state === "broken" ? "broken" : "ready");
    })
    .catch(() => {
      if (mine !== turn) return;
      forget();
      show("empty", "The image could not be sent to the server; try again.");
    })
    .finally(() => page.pending.delete(task));
  page.pending.add(task);
  await task;
}

preview.addEventListener("error", () => {
  if (!preview.getAttribute("src")) return;
  preview.hidden = true;
  show("broken");
});
input.addEventListener("change", () => take(input.files[0]));
input.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && slot.dataset.state === "empty") {
    event.preventDefault();
    event.stopPropagation();
    input.click();
  }
});
element.querySelector(".mm-slot-remove").addEventListener("click", () => {
  forget();
  changed();
  input.focus();
});
for (const name of ["dragenter", "dragover"]) {
  drop.addEventListener(name, (event) => {
    event.preventDefault();
    slot.classList.add("mm-over");
  });
}
for (const name of ["dragleave", "drop"]) {
  drop.addEventListener(name, (event) => {
    event.preventDefault();
    slot.classList.remove("mm-over");
  });
}
drop.addEventListener("drop", (event) => take(event.dataTransfer.files[0]));
page.slots[props.modality] = {
  take,
  forget,
  value: () => value,
  isEmpty: () => slot.dataset.state === "empty",
  hasFocus: () => slot.contains(document.activeElement),
};
