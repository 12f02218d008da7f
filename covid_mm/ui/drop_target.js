// Goes before the script of each component that takes files: the page's state, words, and how files come in.
const page = (window.covidMM ??= { slots: {}, version: 0, pending: new Set() });
const texts = props.texts[document.documentElement.lang] ?? props.texts.en;
const fill = (text, values) => text.replace(/\{(\w+)\}/g, (_, key) => values[key]);

// slot: is marked while files are over drop. opens: whether Enter opens the choice of files.
function acceptFiles({ slot, input, drop, opens = () => true, chosen, dropped }) {
  input.addEventListener("change", () => chosen([...input.files]));
  input.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !opens()) return;
    event.preventDefault();
    event.stopPropagation();
    input.click();
  });
  for (const name of ["dragenter", "dragover", "dragleave", "drop"]) {
    drop.addEventListener(name, (event) => {
      event.preventDefault();
      slot.classList.toggle("mm-over", name === "dragenter" || name === "dragover");
    });
  }
  drop.addEventListener("drop", (event) => dropped(event.dataTransfer));
}

// All files below a folder, with their names inside it; no more are listed than a few above `most`, which are refused.
async function walk(entry, most, inside = "") {
  if (!entry) return [];
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    return [{ file, name: inside + entry.name }];
  }
  const reader = entry.createReader();
  const files = [];
  for (;;) {
    const part = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!part.length) break;
    for (const child of part) files.push(...(await walk(child, most, `${inside}${entry.name}/`)));
    if (files.length > most) break;
  }
  return files;
}
// What was dropped as { file, name }, where a folder is among it; else null. Asked at once: the drop does not last.
async function readFolders(given, most) {
  const entries = [...given.items].map((item) => item.webkitGetAsEntry?.());
  if (!entries.some((entry) => entry?.isDirectory)) return null;
  return (await Promise.all(entries.map((entry) => walk(entry, most)))).flat();
}
