// Runs once, with element, props and watch from Gradio's HTML component. The server's events give an
// object each; a run's object comes again and again with more rows. Only this page keeps the rows.
const page = (window.covidMM ??= { slots: {}, version: 0, pending: new Set() });
const batch = (page.batch ??= {});
const texts = props.texts[document.documentElement.lang] ?? props.texts.en;
const fill = (text) => text.replace("{gone}", texts.gone);
const body = element.querySelector(".mm-batch-body");
const live = element.querySelector(".mm-batch-live");
const message = element.querySelector(".mm-batch-message");
const empty = body.innerHTML;
let shown = null; // rows in the table; null before a run's first object
let csv = "";
let order = null; // {column, down}
let tested = ""; // that labelled studies were measured
let stopping = false; // by the visitor: Gradio may call that a failure, before or after its own event
let announced = 0; // tenths of the run that a screen reader was told of

batch.message = (text = "", announce = true) => {
  message.textContent = text;
  message.hidden = !text;
  if (announce) live.textContent = text;
};
batch.begin = () => {
  shown = order = null;
  tested = "";
  csv = "";
  announced = 0;
  batch.message(texts.starting);
};
batch.reset = () => {
  batch.begin();
  body.innerHTML = empty;
  batch.message();
};
batch.ended = () => {
  if (batch.phase !== "running") return;
  batch.close();
  if (shown !== null) batch.message(`${fill(texts.finished)} ${tested}`.trim());
  page.refreshWorklist?.();
};
batch.cancelled = () => {
  stopping = false;
  if (batch.phase !== "running") return;
  batch.close();
  batch.message(fill(shown ? texts.cancelled : texts.cancelled_early));
};
// phase: in which this failure matters; what failed may be long over.
batch.failed = (phase) => {
  if (batch.phase !== phase || stopping) return;
  batch.close();
  batch.message(texts.busy);
};

function showRun(value) {
  if (!value.html) return;
  if (shown === null) {
    body.innerHTML = value.html;
    shown = 0;
    csv = value.csv;
    batch.message("", false);
  }
  const rows = body.querySelector("tbody");
  for (; shown < value.rows.length; shown += 1) {
    rows.insertAdjacentHTML("beforeend", value.rows[shown].html);
    csv += value.rows[shown].line;
  }
  tested = value.tested ?? "";
  if (order) sort();
  filter();
  page.refreshWorklist?.();
  body.querySelector("progress").value = shown;
  body.querySelector(".mm-batch-count").textContent = value.status;
  body.querySelector(".mm-batch-download").disabled = shown === 0;
  body.querySelector(".mm-batch-reports").disabled = !listNumbers().length;
  const tenths = Math.floor((10 * shown) / value.total);
  if (tenths > announced || shown === 0) {
    announced = tenths;
    live.textContent = value.status;
  }
}

function show(value) {
  if (!value) return;
  if (value.kind === "run") {
    if (batch.phase === "running") showRun(value);
    return;
  }
  const pairing = batch.phase === "pairing";
  if (!pairing && batch.phase !== "running") return;
  if (shown && !pairing) {
    batch.close(); // what was answered before is kept
    batch.message(`${value.sentence} ${texts.gone}`);
    return;
  }
  body.innerHTML = value.html;
  batch.message("", false);
  live.textContent = value.status ?? "";
  if (pairing) batch.setPhase(value.ready ? "ready" : "blocked");
  else batch.close();
}

// Numbers by value, words as people order them; what has no value always comes last.
function compare(first, second) {
  if (!first || !second) return first ? -1 : second ? 1 : 0;
  const numbers = [Number(first), Number(second)];
  const difference = numbers.some(Number.isNaN)
    ? first.localeCompare(second, undefined, { numeric: true, sensitivity: "base" })
    : numbers[0] - numbers[1];
  return order.down ? -difference : difference;
}
function sort() {
  const rows = body.querySelector("tbody");
  const value = (row) => row.children[order.column].dataset.sort;
  rows.append(...[...rows.children].sort((one, other) => compare(value(one), value(other))));
}

function filter() {
  const flag = body.querySelector(".mm-batch-filter select").value;
  for (const row of body.querySelectorAll("tbody tr")) row.hidden = !!flag && !row.dataset.flags.split(" ").includes(flag);
}
// Of the rows that are shown and have a report: their numbers in the session's list.
function listNumbers() {
  const rows = [...body.querySelectorAll("tbody tr:not([hidden], [data-failed=true], [data-number='0'])")];
  return rows.map((row) => Number(row.dataset.number));
}
element.addEventListener("change", (event) => {
  if (!event.target.closest(".mm-batch-filter")) return;
  filter();
  body.querySelector(".mm-batch-reports").disabled = !listNumbers().length;
});
element.addEventListener("click", (event) => {
  if (event.target.closest(".mm-batch-open")) page.openStudy(Number(event.target.closest("tr").dataset.number));
  const reports = event.target.closest(".mm-batch-reports");
  if (reports) page.saveArchive(listNumbers(), "pdf", (text) => batch.message(text, !text));
  const button = event.target.closest(".mm-batch-sort");
  if (button) {
    const head = button.closest("th");
    const column = [...head.parentElement.children].indexOf(head);
    order = { column, down: head.getAttribute("aria-sort") === "ascending" };
    for (const other of body.querySelectorAll("th[aria-sort]")) other.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", order.down ? "descending" : "ascending");
    sort();
  }
  if (event.target.closest(".mm-batch-download")) {
    const link = document.createElement("a");
    // the mark tells spreadsheets that it is UTF-8
    link.href = URL.createObjectURL(new Blob(["\ufeff", csv], { type: "text/csv;charset=utf-8" }));
    link.download = "batch-results.csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  }
});
document.addEventListener(
  "click",
  (event) => {
    if (batch.phase === "running" && event.target.closest?.("#mm-batch-cancel")) stopping = true;
  },
  true, // before Gradio's own listener
);
watch("value", () => show(props.value));
