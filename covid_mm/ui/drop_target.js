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

