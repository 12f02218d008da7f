// The session's studies. The server keeps them under a token that only this tab knows: sessionStorage outlives a
// reload and nothing else. Rows are drawn from plain texts; a study that is opened comes as HTML and lies over the result.
() => {
  const page = (window.covidMM ??= { slots: {}, version: 0, pending: new Set() });
  const find = (selector) => document.querySelector(selector);
  const panel = () => find(".mm-worklist");
  const kept = () => find("#mm-kept");
  const words = () => JSON.parse(panel().dataset.words);
  const say = (text, values = {}) => text.replace(/\{(\w+)\}/g, (_, key) => values[key]);
  const random = (bytes) =>
    [...crypto.getRandomValues(new Uint8Array(bytes))].map((value) => value.toString(16).padStart(2, "0")).join("");
  const address = (part) => location.origin + location.pathname.replace(/\/*$/, "/") + part;
  const tab = random(8);
  let token = null;
  let changes = 0; // of the list, as far as this page has seen them
  let rows = new Map(); // number -> row
  let elements = new Map(); // number -> its element
  let opened = 0; // number of the study that is shown
  let tested = ""; // when the own test was made
  let figures = ""; // of it, as HTML
  let sure = false; // the whole list is deleted by the next press
  let refreshing = null;
  let again = false;

  try {
    token = sessionStorage.getItem("covid-mm-list");
  } catch {
    // a browser without storage keeps the list until the page is left
  }
  const begin = () => {
    token = random(32);
    changes = 0;
    rows = new Map();
    try {
      sessionStorage.setItem("covid-mm-list", token);
    } catch {
      // as above
    }
  };
  if (!token) begin();

  // Opened by an event of the page, so that a login is asked for; analysing waits for it.
  let arrive = null;
  const open = () => {
    const button = find("#mm-worklist-open");
    if (!button || !panel()) {
      setTimeout(open, 50);
      return;
    }
    if (!arrive) {
      const arriving = new Promise((resolve) => (arrive = resolve));
      const late = new Promise((resolve) => setTimeout(resolve, 5000));
      const task = Promise.race([arriving, late]).finally(() => page.pending.delete(task));
      page.pending.add(task);
    }
    button.click();
  };
  let openings = 0; // an answer that equals the one before would not be noticed
  page.worklistTicket = () => [{ token, page: tab, number: (openings += 1) }];
  page.worklistOpened = () => {
    arrive?.();
    arrive = null;
    page.refreshWorklist();
  };

  async function send(values, part = "worklist") {
    const response = await fetch(address(part), {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ token, ...values }),
    });
    if (response.ok) return response;
    const { error } = await response.json().catch(() => ({}));
    throw Object.assign(new Error(error ?? words().unanswered), { gone: !!error && response.status === 404 });
  }
  const tell = (text) => (panel().querySelector(".mm-worklist-message").textContent = text);
  // What failed is one sentence; a list that is gone begins anew with the next study.
  function fail(error) {
    if (!error.gone) {
      tell(error instanceof TypeError ? words().unanswered : error.message);
      return;
    }
    const had = rows.size > 0;
    close();
    begin();
    draw();
    if (had) tell(words().gone);
  }

  // Asks for what changed; asked again meanwhile, it looks once more.
  page.refreshWorklist = () => {
    if (refreshing) {
      again = true;
      return refreshing;
    }
    const asked = token;
    refreshing = send({ action: "changes", since: changes })
      .then((response) => response.json())
      .then((answer) => {
        if (asked !== token) return;
        changes = answer.changes;
        const known = new Set(answer.numbers);
        for (const number of rows.keys()) if (!known.has(number)) forget(number);
        for (const row of answer.rows) {
          forget(row.number);
          rows.set(row.number, row);
        }
        draw();
        if (answer.test !== tested) showTest(answer.test);
      })
      .catch(fail)
      .finally(() => {
        refreshing = null;
        if (again) {
          again = false;
          page.refreshWorklist();
        }
      });
    return refreshing;
  };
  // The hospital's own test, on its tab, which Gradio draws when it is opened first.
  async function showTest(date) {
    tested = date;
    figures = "";
    if (date) await act({ action: "test" }, async (response) => (figures = (await response.json()).html));
    fillTest();
  }
  function fillTest(tries = 0) {
    const body = find(".mm-own-result");
    if (body && body.dataset.test !== tested) {
      body.innerHTML = figures;
      body.dataset.test = tested;
    } else if (!body && tries < 40) setTimeout(() => fillTest(tries + 1), 50);
  }
  function forget(number) {
    rows.delete(number);
    elements.get(number)?.remove();
    elements.delete(number);
  }

  const make = (tag, name, text = "") => Object.assign(document.createElement(tag), { className: name, textContent: text });
  const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
  function element(row) {
    const line = make("li", "mm-worklist-row");
    line.dataset.number = row.number;
    const button = make("button", "mm-worklist-study");
    button.type = "button";
    const pictures = make("span", "mm-worklist-pictures");
    for (const one of row.thumbnails) {
      const picture = new Image(one.width, one.height);
      Object.assign(picture, { src: one.url, alt: one.title, loading: "lazy", decoding: "async" });
      pictures.append(picture);
    }
    const text = make("span", "mm-worklist-text");
    const top = make("span", "mm-worklist-name");
    top.append(make("b", "", row.name), make("time", "", clock.format(new Date(row.added))));
    const answer = make("span", "mm-worklist-answer");
    const pill = make("span", "mm-batch-answer", row.title);
    pill.dataset.label = row.label;
    answer.append(pill, make("span", "mm-worklist-value", row.shown));
    text.append(top, answer);
    if (row.status) text.append(make("span", "mm-worklist-status", row.status));
    if (row.note) text.append(make("span", "mm-worklist-notes", row.note));
    button.setAttribute("aria-label", [row.name, row.title, row.shown].filter(Boolean).join(", "));
    button.append(pictures, text);
    const remove = make("button", "mm-worklist-remove", "×");
    remove.type = "button";
    remove.setAttribute("aria-label", say(words().remove, { name: row.name }));
    line.append(button, remove);
    return line;
  }

  const orders = {
    newest: (one, other) => other.number - one.number,
    name: (one, other) => one.name.localeCompare(other.name, undefined, { numeric: true, sensitivity: "base" }),
    title: (one, other) => one.title.localeCompare(other.title) || other.number - one.number,
    value: (one, other) => (other.value ?? -1) - (one.value ?? -1) || other.number - one.number,
  };
  // The rows that search and filter leave, in order.
  function shown() {
    const text = panel().querySelector(".mm-worklist-search").value.trim().toLowerCase();
    const flag = panel().querySelector(".mm-worklist-filter").value;
    const fits = (row) =>
      (!flag || row.flags.includes(flag)) &&
      (!text || `${row.name} ${row.title} ${row.status} ${row.note}`.toLowerCase().includes(text));
    return [...rows.values()].filter(fits).sort(orders[panel().querySelector(".mm-worklist-order").value]);
  }
  function draw() {
    const list = shown();
    if (rows.size) panel().hidden = false; // an empty list says why it is, where it had studies
    sure = false;
    const lines = list.map((row) => {
      if (!elements.has(row.number)) elements.set(row.number, element(row));
      return elements.get(row.number);
    });
    for (const [number, line] of elements) line.querySelector("button").setAttribute("aria-pressed", String(number === opened));
    panel().querySelector(".mm-worklist-rows").replaceChildren(...lines);
    const count = rows.size === 1 ? words().one : say(words().many, { shown: list.length, total: rows.size });
    panel().querySelector(".mm-worklist-count").textContent = count;
    tell(rows.size && !list.length ? words().none : "");
    for (const button of panel().querySelectorAll(".mm-worklist-archive")) button.disabled = !list.some((row) => row.opens);
  }

  // A study of the list lies over the result, which stays as it is below.
  async function show(request, number) {
    try {
      const { html, files = null } = await (await send(request)).json();
      page.leaveMaps?.();
      kept().innerHTML = html;
      opened = number;
      page.listed = { number, files };
      kept().querySelector(".mm-swap")?.remove();
      if (!files) {
        const needing = ".mm-heat label:not(.mm-heat-opacity, .mm-heat-drawn), .mm-heat-cancel, .mm-download";
        for (const part of kept().querySelectorAll(needing)) part.remove();
        for (const part of kept().querySelectorAll(".mm-series-slider, .mm-series-thumbnails button")) part.disabled = true;
      }
      for (const time of kept().querySelectorAll("time")) time.textContent = new Date(time.dateTime).toLocaleString();
      offerComparison(number);
      find("#mm-answer-column").classList.add("mm-shows-kept");
      page.answered(kept().querySelector(".mm-kept"));
      draw();
      openStudyTab();
      kept().querySelector("h2")?.focus({ preventScroll: true });
      if (kept().getBoundingClientRect().top < 0 || kept().getBoundingClientRect().top > window.innerHeight - 120)
        kept().scrollIntoView({ block: "start" });
    } catch (error) {
      fail(error);
    }
  }
  page.openStudy = (number) => show({ action: "study", number }, number);
  function offerComparison(number) {
    const select = kept().querySelector(".mm-kept-compare");
    if (!select) return;
    const others = [...rows.values()].filter((row) => row.opens && row.number !== number).sort(orders.newest);
    select.replaceChildren(new Option(words().compare, ""), ...others.map((row) => new Option(`${row.name}: ${row.title}`, row.number)));
    select.closest("label").hidden = !others.length || !kept().querySelector(".mm-views");
  }
  function openStudyTab() {
    const first = document.querySelector("#mm-tabs button[role=tab]");
    if (first?.getAttribute("aria-selected") === "false") first.click();
  }
  function close() {
    const was = opened;
    page.leaveMaps?.();
    opened = 0;
    page.listed = null;
    find("#mm-answer-column")?.classList.remove("mm-shows-kept");
    kept().replaceChildren();
    for (const line of elements.values()) line.querySelector("button").setAttribute("aria-pressed", "false");
    if (document.activeElement === document.body) elements.get(was)?.querySelector("button").focus({ preventScroll: true });
  }
  // Before a study is analysed: its list may have been deleted meanwhile.
  page.beginStudy = () => {
    if (opened) close();
    open();
  };

  function save(blob, name) {
    const url = URL.createObjectURL(blob);
    Object.assign(document.createElement("a"), { href: url, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(url), 60000);
  }
  // Reports of many studies; `tellSize` is given a line while they arrive. Used by the batch's table too.
  page.saveArchive = async (numbers, format, tellSize) => {
    try {
      const response = await send({ numbers, format }, "worklist/archive");
      const parts = [];
      let size = 0;
      for (const reader = response.body.getReader(); ; ) {
        const { done, value } = await reader.read();
        if (done) break;
        parts.push(value);
        size += value.length;
        tellSize(say(words().making, { size: (size / 1048576).toFixed(1) }));
      }
      save(new Blob(parts, { type: "application/zip" }), `study-reports-${format}.zip`);
      tellSize("");
    } catch (error) {
      tellSize("");
      fail(error);
    }
  };
  async function act(request, after) {
    try {
      await after(await send(request));
    } catch (error) {
      const status = kept().querySelector(".mm-kept-status");
      if (status && !error.gone) status.textContent = error.message;
      else fail(error);
    }
  }
  const remove = (numbers) =>
    act({ action: "delete", numbers }, async () => {
      if (numbers.includes(opened)) close();
      await page.refreshWorklist();
    });

  document.addEventListener("click", (event) => {
    const target = event.target;
    const row = target.closest?.(".mm-worklist-row");
    if (row && target.closest(".mm-worklist-remove")) {
      const next = row.nextElementSibling ?? row.previousElementSibling;
      remove([Number(row.dataset.number)]).then(() => next?.querySelector("button")?.focus());
    } else if (row && target.closest(".mm-worklist-study")) page.openStudy(Number(row.dataset.number));
    const archive = target.closest?.(".mm-worklist-archive");
    if (archive) page.saveArchive(shown().filter((one) => one.opens).map((one) => one.number), archive.dataset.format, tell);
    if (target.closest?.(".mm-worklist-clear")) {
      if (!sure) {
        tell(words().sure);
        sure = true;
      } else
        act({ action: "forget" }, () => {
          close();
          begin();
          draw();
          showTest("");
          find("#mm-analyse")?.focus();
        });
    }
    if (target.closest?.("#mm-tabs [role=tab]")) fillTest();
    const own = target.closest?.(".mm-own-save");
    if (own) {
      const format = own.dataset.format;
      act({ action: "test-report", format }, async (response) => save(await response.blob(), `own-test.${format}`));
    }
    if (target.closest?.(".mm-kept-close")) close();
    if (target.closest?.(".mm-kept-delete")) remove([opened]);
    const report = target.closest?.(".mm-kept-report");
    if (report) {
      const format = report.dataset.format;
      note().then(() =>
        act({ action: "report", number: opened, format }, async (response) => save(await response.blob(), `study-report.${format}`)),
      );
    }
  });
  const note = async () => {
    const text = kept().querySelector(".mm-kept-note").value;
    if (text === rows.get(opened)?.note) return;
    await act({ action: "note", number: opened, note: text }, async () => {
      kept().querySelector(".mm-kept-status").textContent = words().saved;
      await page.refreshWorklist();
    });
  };
  document.addEventListener("change", (event) => {
    if (event.target.matches?.(".mm-kept-note")) note();
    if (event.target.matches?.(".mm-worklist-filter, .mm-worklist-order")) draw();
    if (event.target.matches?.(".mm-kept-compare") && event.target.value)
      show({ action: "compare", number: opened, other: Number(event.target.value) }, opened);
  });
  document.addEventListener("input", (event) => {
    if (event.target.matches?.(".mm-worklist-search")) draw();
  });
  const leave = (action) =>
    navigator.sendBeacon(
      address("worklist"),
      new Blob([JSON.stringify({ token, action, page: tab })], { type: "application/json" }),
    );
  window.addEventListener("pagehide", () => leave("leave"));
  window.addEventListener("pageshow", (event) => event.persisted && leave("return"));
  open();
}
