// What can be done with an answer without asking for a new one: opacity, other thresholds; and with
// the server's help: another method, layer or class, a map as a file, the report.
() => {
  const page = (window.covidMM ??= { slots: {}, version: 0, pending: new Set() });
  const find = (selector) => page.shown()?.querySelector(selector);
  let asked = {}; // what the next hidden button press is to send
  let applied = {}; // the heatmaps that are shown
  let working = false; // heatmaps were asked for; what comes after a cancel is ignored
  let asker = null; // the answer that they were asked for
  let number = 0; // counts what was asked for; the server gives it back, for Gradio hands over what a cancelled event still gives
  let waiting = false; // another choice was made meanwhile: asked for when the one under way has ended
  let style = "cells"; // how maps are drawn, from study to study
  let cancelled = false; // just now: Gradio then reports a failure, twice, a moment later

  const choice = () => ({
    method: find(".mm-heat-method")?.value,
    layer: find(".mm-heat-layer")?.value,
    target: find(".mm-heat-target")?.value,
    slice: page.series?.chosen(),
    listed: page.listed?.number,
  });
  const opacity = () => Number(find(".mm-opacity")?.value ?? 60) / 100;
  // Hands Gradio the study and the request.
  page.request = async (network) => {
    await Promise.allSettled([...page.pending]);
    const files = ["ct", "xray"].map((modality) => (asked.listed ? null : (page.slots[modality]?.value() ?? null)));
    return [...files, network, page.slices(), asked];
  };
  function press(name, request) {
    asked = request;
    document.querySelector(`#mm-${name}`)?.click();
  }
  function say(selector, text) {
    const target = find(selector) ?? document.querySelector(selector); // the report's form lies beside the answer
    if (target) target.textContent = text;
  }

  // The server would read the images that lie in the slots now, not those that were answered.
  const isOld = () => page.shown().matches(".mm-stale, .mm-busy");
  const oldText = () => find(".mm-stale-note").textContent;

  page.explainSlice = (drawing) => find(".mm-heat") && explain(drawing);
  function explain(drawing) {
    if (isOld()) {
      restore();
      settle(oldText());
      return;
    }
    if (working) {
      waiting = true;
      return;
    }
    working = true;
    asker = page.shown();
    number += 1;
    say(".mm-heat-status", drawing ?? "…");
    find(".mm-heat-cancel").hidden = false;
    find(".mm-views").setAttribute("aria-busy", "true");
    press("explain", { ...choice(), number });
  }
  function settle(text = "") {
    working = waiting = false;
    say(".mm-heat-status", text);
    const button = find(".mm-heat-cancel");
    if (button) button.hidden = true;
    find(".mm-views")?.removeAttribute("aria-busy");
  }
  function restore() {
    for (const [name, value] of Object.entries(applied)) {
      const control = find(`.mm-heat-${name}`);
      if (control && value) control.value = value;
    }
  }
  // The attention map is of one class and one layer: choosers that do not fit together follow the one that was moved.
  function fit(moved) {
    const only = JSON.parse(find(".mm-heat").dataset.attention);
    const [method, target, layer] = ["method", "target", "layer"].map((name) => find(`.mm-heat-${name}`));
    if (method.value !== only.method) return;
    if (moved === method) [target.value, layer.value] = [only.target, only.layer];
    else if (target.value !== only.target || layer.value !== only.layer) method.value = only.otherwise;
  }
  page.explained = (answer) => {
    if (!working || answer.number !== number || asker !== page.shown() || !find(".mm-heat")) return;
    cancelled = false;
    if (answer.progress !== undefined) {
      say(".mm-heat-status", `${Math.round(100 * answer.progress)} %`);
    } else if (waiting) {
      settle();
      explain();
    } else if (answer.maps) {
      applied = choice();
      for (const [modality, map] of Object.entries(answer.maps)) show(find(`.mm-view[data-modality=${modality}]`), map);
      if (answer.slice) page.series?.drawn(answer.slice);
      settle();
      page.finishes += 1;
    } else {
      restore();
      settle(answer.error ?? "");
      page.finishes += 1;
    }
  };
  function cancel() {
    cancelled = true;
    setTimeout(() => (cancelled = false), 3000);
    restore();
    settle();
    document.querySelector("#mm-stop-explain")?.click();
  }
  // Another study is shown: what is still being drawn for the one before is not waited for.
  page.leaveMaps = () => working && cancel();
  page.refused = (name) => {
    if (name === "explain" && (cancelled || !working)) return;
    const text = find(".mm-unanswered-note")?.textContent ?? "";
    if (name === "report") say(".mm-report-status", text);
    else {
      restore();
      settle(text);
    }
  };
  // The map as its cells in colour, or as lines along their borders.
  function paint(layer) {
    const { cells, lines } = layer.dataset;
    const source = (style === "lines" && lines) || cells;
    if (source) layer.src = source;
    else layer.removeAttribute("src");
    const key = layer.closest(".mm-view").querySelector(".mm-lines-key");
    key.hidden = !(style === "lines" && lines);
  }
  function show(view, map) {
    if (!view) return;
    const layer = view.querySelector(".mm-layer");
    layer.hidden = !map.layer;
    layer.dataset.cells = map.layer ?? "";
    layer.dataset.lines = map.lines ?? "";
    paint(layer);
    layer.alt = map.alt;
    const none = view.querySelector(".mm-stack .mm-none");
    none.hidden = !map.none;
    none.textContent = map.none;
    view.querySelector(".mm-map-caption").textContent = map.caption;
    view.querySelector(".mm-scale small").textContent = map.legend;
    view.querySelector(".mm-location").textContent = map.location;
    view.querySelector(".mm-download").hidden = !map.layer;
  }

  // A file that lives in the page only.
  page.saved = (answer) => {
    const report = answer.name?.includes("-report.") || asked.format;
    const say_ = (text) => (report ? say(".mm-report-status", text) : settle(text));
    if (answer.error) {
      say_(answer.error);
      page.finishes += 1;
      return;
    }
    const [head, body] = answer.url.split(",");
    const bytes = Uint8Array.from(atob(body), (letter) => letter.charCodeAt(0));
    const url = URL.createObjectURL(new Blob([bytes], { type: head.slice(5, head.indexOf(";")) }));
    const link = Object.assign(document.createElement("a"), { href: url, download: answer.name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(url), 30000);
    say_("");
    page.finishes += 1;
  };

  // Wilson's score interval, as everywhere in the project.
  function share(successes, total, { decimal, interval }) {
    const z = 1.959964;
    const p = successes / total;
    const middle = (p + (z * z) / (2 * total)) / (1 + (z * z) / total);
    const half = (z * Math.sqrt((p * (1 - p)) / total + (z * z) / (4 * total * total))) / (1 + (z * z) / total);
    const percent = (value) => (100 * Math.min(1, Math.max(0, value))).toFixed(1).replace(/\.0$/, "").replace(".", decimal);
    const range = interval.replace("{low}", percent(middle - half)).replace("{high}", percent(middle + half));
    return `${successes}/${total} = ${percent(p)} % (${range} %)`;
  }
  function slide(slider) {
    const points = JSON.parse(slider.dataset.points);
    const chosen = Number(slider.value) / 100;
    const gaps = points.thresholds.map((value) => Math.abs(value - chosen));
    const row = gaps.indexOf(Math.min(...gaps));
    const words = {
      threshold: `${Math.round(100 * points.thresholds[row])} %`,
      sensitivity: share(points.truePositive[row], points.positive, slider.dataset),
      specificity: share(points.negative - points.falsePositive[row], points.negative, slider.dataset),
      called: points.probability >= points.thresholds[row] ? slider.dataset.positive : slider.dataset.negative,
    };
    const box = slider.closest("details");
    box.querySelector("output").textContent = words.threshold;
    box.querySelector(".mm-operating-text").textContent = slider.dataset.text.replace(/{(\w+)}/g, (_, name) => words[name]);
  }

  // Moves ticks and calls on the answer's bars to the slider's threshold; back at its own they are as they were.
  function tryThreshold(slider) {
    const bars = slider.closest(".mm-answer")?.querySelector(".mm-bars");
    if (!bars) return;
    const threshold = Number(slider.value) / 100;
    const trial = slider.value !== slider.defaultValue;
    bars.toggleAttribute("data-trial", trial);
    bars.querySelector(".mm-trial").hidden = !trial;
    for (const bar of bars.querySelectorAll(".mm-bar[data-value]")) {
      const tick = bar.querySelector(".mm-track i");
      const call = bar.querySelector(".mm-call");
      bar.own ??= { left: tick.style.left, text: call.textContent, label: bar.dataset.label };
      const [value, supported] = [Number(bar.dataset.value), Number(bar.dataset.supported)];
      // a probability at its cap lies anywhere beyond it
      const known = Math.abs(value - 0.5) < supported - 0.5 - 1e-6 || Math.abs(threshold - 0.5) <= supported - 0.5 + 1e-6;
      const positive = value >= threshold;
      tick.style.left = trial ? `${slider.value}%` : bar.own.left;
      call.textContent = !trial ? bar.own.text : known ? slider.dataset[positive ? "positive" : "negative"] : "–";
      bar.dataset.label = !trial ? bar.own.label : !known ? "undetermined" : positive ? "covid19_pneumonia" : "normal";
    }
  }

  document.addEventListener("input", (event) => {
    if (event.target.matches?.(".mm-opacity")) {
      page.shown().style.setProperty("--mm-opacity", opacity());
      event.target.closest("label").querySelector("output").textContent = `${event.target.value} %`;
    }
    if (event.target.matches?.(".mm-operating-slider")) {
      slide(event.target);
      tryThreshold(event.target);
    }
  });
  document.addEventListener("change", (event) => {
    if (event.target.matches?.(".mm-heat-style")) {
      style = event.target.value;
      page.shown().querySelectorAll(".mm-layer").forEach(paint);
    } else if (event.target.matches?.(".mm-heat select")) {
      fit(event.target);
      explain();
    }
  });
  document.addEventListener(
    "toggle",
    (event) => {
      const slider = event.target.querySelector?.(".mm-operating-slider");
      if (!slider) return;
      if (!event.target.open) slider.value = slider.defaultValue;
      slide(slider);
      tryThreshold(slider);
    },
    true,
  );
  document.addEventListener("click", (event) => {
    const target = event.target;
    if (target.closest?.(".mm-heat-cancel")) cancel();
    const map = target.closest?.(".mm-download");
    if (map && isOld()) settle(oldText());
    else if (map) press("download", { ...choice(), modality: map.dataset.modality, opacity: opacity() });
    const report = target.closest?.(".mm-report-button");
    if (report && isOld()) say(".mm-report-status", oldText());
    else if (report) {
      say(".mm-report-status", "…");
      press("report", { ...choice(), format: report.dataset.format, note: document.querySelector(".mm-note").value });
    }
  });
  // An answer has come, or a study of the list was opened; it is drawn as the one before.
  page.answered = (root = document.querySelector("#mm-result")) => {
    if (root === page.shown()) {
      working = waiting = false; // maps of the study before no longer matter
      applied = choice();
    }
    root.style.setProperty("--mm-opacity", Number(root.querySelector(".mm-opacity")?.value ?? 60) / 100);
    const chooser = root.querySelector(".mm-heat-style");
    if (chooser) chooser.value = style;
    root.querySelectorAll(".mm-layer[data-cells]").forEach(paint);
    say(".mm-report-status", "");
  };
}
