// The dialog: which panes there are, its tools, its keys. A film per modality; two panes of one film share slice and window.
import { Film } from "./film.js";
import { Pane } from "./pane.js";

const MODALITIES = ["ct", "xray"];
const STEP = 60; // CSS pixels of an arrow key
const fill = (text, values) => text.replace(/\{(\w+)\}/g, (_, key) => values[key]);

export class Viewer {
  constructor(dialog, texts, page) {
    Object.assign(this, { dialog, texts, page });
    this.films = {};
    this.stacks = {}; // modality -> what setStack was given, and the file that it belongs to
    this.panes = [];
    this.active = 0;
    this.mode = "pan";
    this.map = "cells";
    this.outline = true;
    this.linked = false;
    this.peeking = false;
    this.find = (selector) => dialog.querySelector(selector);
    this.tool = (name) => this.find(`[data-tool=${name}]`);
    dialog.addEventListener("click", (event) => this.press(event.target.closest("[data-tool]")?.dataset.tool));
    dialog.addEventListener("input", (event) => this.input(event.target));
    dialog.addEventListener("keydown", (event) => this.keydown(event));
    dialog.addEventListener("keyup", (event) => event.key === " " && this.peek(false));
    dialog.addEventListener("focusin", (event) => this.focus(event.target));
    dialog.addEventListener("close", () => this.closed());
    const hold = this.tool("peek");
    hold.addEventListener("pointerdown", (event) => {
      hold.setPointerCapture(event.pointerId);
      this.peek(true);
    });
    for (const name of ["pointerup", "pointercancel", "blur"]) hold.addEventListener(name, () => this.peek(false));
    hold.addEventListener("contextmenu", (event) => event.preventDefault()); // a long touch
    document.addEventListener("fullscreenchange", () => this.mark("full", Boolean(document.fullscreenElement)));
    this.tool("full").hidden = !document.fullscreenEnabled;
    const observer = new MutationObserver(() => this.dialog.open && this.cover());
    for (const part of document.querySelectorAll("#mm-result, #mm-kept")) {
      const attributeFilter = ["src", "data-lines", "hidden", "class"];
      observer.observe(part, { subtree: true, childList: true, attributes: true, attributeFilter });
    }
  }

  // ---- films and panes

  open(modality, kept) {
    if (this.dialog.open) return;
    this.kept = kept;
    const names = MODALITIES.filter((name) => (kept ? this.view(name) : this.page.slots[name]?.value()));
    if (!names.length) return;
    this.dialog.showModal();
    document.documentElement.classList.add("mm-viewing");
    for (const name of names) this.films[name] = this.makeFilm(name);
    this.tool("opacity").value = this.page.shown().querySelector(".mm-opacity")?.value ?? 60;
    this.layouts = this.listLayouts(names);
    const select = this.tool("layout");
    select.replaceChildren(...Object.entries(this.layouts).map(([name, { title }]) => new Option(title, name)));
    select.hidden = select.options.length < 2;
    this.layout(names.length > 1 ? "both" : select.value);
    this.focusPane(Math.max(0, this.panes.findIndex((pane) => pane.film.modality === modality)));
    for (const film of Object.values(this.films)) film.fetch();
  }

  title(modality) {
    return this.texts[modality];
  }

  makeFilm(modality) {
    if (this.kept && !this.page.listed?.files?.[modality]) return this.makeKept(modality);
    const own = this.kept ? null : this.stacks[modality];
    const stack = own && own.value === this.page.slots[modality].value() ? own : null;
    const preview = this.kept
      ? this.view(modality).querySelector(".mm-stack img")
      : document.querySelector(`.mm-slot[data-modality=${modality}] .mm-slot-preview`);
    const src = preview?.getAttribute("src");
    const film = new Film(modality, {
      preview: src ? { url: src, width: preview.naturalWidth, height: preview.naturalHeight } : null,
      choice: stack ? { frame: stack.index } : this.choice(modality),
      load: stack
        ? (frames) => this.loadStack(stack, frames)
        : (frames, { window, level, width }) => this.page.viewer.fetchFrames({ modality, frames, window, level, width }),
    });
    if (stack) film.count = stack.count;
    film.addEventListener("slice", () => {
      const detail = { modality, index: film.index, count: film.count };
      document.dispatchEvent(new CustomEvent("mm-slice", { detail }));
    });
    return film;
  }

  // The slot's window and slice, or those that a study of the list was read with; of a scan that was answered the slice
  // that the result shows.
  choice(modality) {
    const choice = this.kept ? this.page.listed?.files?.[modality] : this.page.slots[modality].choice();
    const slice = this.view(modality)?.dataset.slice;
    return slice === undefined ? choice : { ...choice, frame: Number(slice) };
  }

  // The slice that the result's map belongs to: undefined where there is one image, null while it is being drawn.
  mapSlice(modality) {
    const view = this.kept && !this.page.listed?.files ? null : this.view(modality);
    if (view?.classList.contains("mm-undrawn")) return null;
    return view ? this.choice(modality)?.frame : undefined;
  }

  // A study of the list whose files are gone: the picture in the page is all there is.
  makeKept(modality) {
    const image = this.view(modality).querySelector(".mm-stack img");
    const picture = { url: image.src, width: image.naturalWidth, height: image.naturalHeight };
    return new Film(modality, { load: async () => ({ count: 1, frame: 0, pictures: { 0: picture } }), remark: this.texts.kept });
  }

  async loadStack(stack, frames) {
    const wanted = frames.length ? frames : [stack.index];
    const read = async (frame) => {
      const url = await stack.urlOf(frame);
      const image = new Image();
      image.src = url;
      await image.decode();
      return [frame, { url, width: image.naturalWidth, height: image.naturalHeight }];
    };
    return { count: stack.count, frame: wanted[0], pictures: Object.fromEntries(await Promise.all(wanted.map(read))) };
  }

  setStack(modality, count, urlOf, index) {
    this.stacks[modality] = { count, urlOf, index, value: this.page.slots[modality]?.value() };
  }

  show(modality, index) {
    const film = this.dialog.open ? this.films[modality] : null;
    if (film) film.show(index);
    else if (this.stacks[modality]) this.stacks[modality].index = index;
  }

  // The result's part of a modality, where the answer is of the images that lie in the slots.
  view(modality) {
    const result = this.kept ?? document.querySelector("#mm-result");
    return result?.matches(".mm-stale, .mm-busy") ? null : result?.querySelector(`.mm-view[data-modality=${modality}]`);
  }

  listLayouts(names) {
    const layouts = {};
    if (names.length > 1) layouts.both = { title: this.texts.both, panes: names.map((name) => [name, true]) };
    for (const name of names) {
      const title = this.title(name);
      if (this.view(name)?.querySelector(".mm-layer")) {
        layouts[`${name}-pair`] = { title: fill(this.texts.pair, { title }), panes: [[name, false], [name, true]], linked: true };
      }
      layouts[name] = { title: fill(this.texts.single, { title }), panes: [[name, true]] };
    }
    return layouts;
  }

  layout(name) {
    this.tool("layout").value = name;
    const { panes, linked } = this.layouts[name];
    for (const pane of this.panes) pane.destroy();
    const parent = this.find(".mm-viewer-panes");
    this.panes = panes.map(([modality, mapped]) => {
      const section = this.find("template").content.firstElementChild.cloneNode(true);
      parent.append(section);
      const drawn = Boolean(this.view(modality)?.querySelector(".mm-layer"));
      return new Pane(section, this.films[modality], {
        title: this.title(modality),
        kind: mapped && drawn ? this.texts.mapped : this.texts.plain,
        mapped: drawn ? mapped : null,
        texts: this.texts,
        filters: this.find(".mm-viewer-filters"),
        mode: () => this.mode,
        map: () => this.map,
        moved: (pane) => this.linked && this.lead(pane),
      });
    });
    this.find(".mm-viewer-panes").dataset.count = this.panes.length;
    this.active = 0;
    this.link(Boolean(linked));
    this.tool("link").disabled = this.panes.length < 2;
    this.cover();
  }

  lead(pane) {
    const view = pane.view;
    for (const other of this.panes) if (other !== pane) other.follow(view);
  }

  link(on) {
    this.linked = on;
    this.mark("link", on);
    if (on && this.panes[this.active]?.aspect) this.lead(this.panes[this.active]);
  }

  // Lays the map, as it is chosen, and the outline over the panes that have them.
  cover() {
    let any = false;
    for (const pane of this.panes) {
      const view = this.view(pane.film.modality);
      const layer = view?.querySelector(".mm-layer");
      const outline = view?.querySelector(".mm-outline");
      const over = document.createElement("div");
      over.className = "mm-viewer-over";
      any ||= Boolean(layer);
      if (layer && !layer.hidden && pane.mapped) {
        const image = document.createElement("img");
        image.className = "mm-viewer-map-image";
        image.alt = layer.alt;
        image.src = (this.map === "lines" && layer.dataset.lines) || layer.src;
        over.append(image);
      }
      if (outline) over.append(outline.cloneNode(true));
      pane.film.mapSlice = this.mapSlice(pane.film.modality);
      pane.cover(over);
      pane.writeNote();
    }
    this.find(".mm-viewer-map").hidden = !any;
    this.dress();
  }

  // What needs no new elements: shown or not, how opaque.
  dress() {
    const shown = (this.map !== "off") !== this.peeking;
    this.dialog.classList.toggle("mm-viewer-unmapped", !shown);
    this.dialog.classList.toggle("mm-viewer-unlined", !this.outline);
    this.dialog.style.setProperty("--mm-opacity", Number(this.tool("opacity").value) / 100);
    this.tool("map").value = this.map;
    this.mark("outline", this.outline);
  }

  peek(on) {
    if (this.peeking === on) return;
    this.peeking = on;
    this.tool("peek").classList.toggle("mm-held", on);
    this.dress();
  }

  // ---- tools and keys

  mark(name, on) {
    this.tool(name).setAttribute("aria-pressed", String(on));
  }

  get pane() {
    return this.panes[this.active];
  }

  press(name) {
    const tools = {
      pan: () => this.drag("pan"),
      grey: () => this.drag("grey"),
      in: () => this.pane.zoom(1.5),
      out: () => this.pane.zoom(1 / 1.5),
      fit: () => this.pane.fit(),
      actual: () => this.pane.actual(),
      invert: () => this.pane.film.invert(),
      reset: () => this.reset(),
      link: () => this.link(!this.linked),
      outline: () => {
        this.outline = !this.outline;
        this.dress();
      },
      full: () => this.full(),
      keys: () => this.keys(),
      more: () => this.more(),
      close: () => this.dialog.close(),
    };
    tools[name]?.();
    this.writeActive();
  }

  input(control) {
    if (control === this.tool("layout")) {
      this.layout(control.value);
    } else if (control === this.tool("map")) {
      this.map = control.value;
      this.cover();
    } else if (control === this.tool("opacity")) {
      this.dress();
    }
  }

  drag(mode) {
    this.mode = mode;
    this.mark("pan", mode === "pan");
    this.mark("grey", mode === "grey");
    this.dialog.dataset.mode = mode;
  }

  reset() {
    for (const pane of this.panes) pane.fit();
    for (const film of Object.values(this.films)) film.reset(this.choice(film.modality));
  }

  full() {
    if (document.fullscreenElement) document.exitFullscreen();
    else this.find(".mm-viewer-whole").requestFullscreen(); // browsers refuse a dialog itself
  }

  // On a narrow screen: the tools that are not always there.
  more() {
    const all = this.dialog.classList.toggle("mm-viewer-all");
    this.tool("more").setAttribute("aria-expanded", String(all));
  }

  keys(open = this.find(".mm-viewer-keys").hidden) {
    this.find(".mm-viewer-keys").hidden = !open;
    this.tool("keys").setAttribute("aria-expanded", String(open));
    if (open) this.find(".mm-viewer-keys").focus();
    else this.focusPane(this.active);
  }

  keydown(event) {
    const control = event.target.closest("input, select, button");
    if (event.key === "Escape" && !this.find(".mm-viewer-keys").hidden) {
      event.preventDefault();
      this.keys(false);
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const native = control?.matches("select") || (control?.matches("input") && /^(Arrow|Page|Home|End)/.test(event.key));
    if (native || (control && [" ", "Enter"].includes(event.key))) {
      if (control === this.tool("peek") && event.key === " ") this.peek(true);
      return;
    }
    const { film } = this.pane;
    const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const plain = {
      "+": () => this.press("in"),
      "=": () => this.press("in"),
      "-": () => this.press("out"),
      0: () => this.press("fit"),
      1: () => this.press("actual"),
      p: () => film.windows.length && film.choose(film.windows[(film.windows.indexOf(film.window.window ?? film.windows[0]) + 1) % film.windows.length]),
      d: () => this.drag(this.mode === "pan" ? "grey" : "pan"),
      i: () => this.press("invert"),
      r: () => this.press("reset"),
      PageUp: () => film.show((film.index ?? 0) - 1),
      PageDown: () => film.show((film.index ?? 0) + 1),
      Home: () => film.show(0),
      End: () => film.show(film.count - 1),
      " ": () => this.peek(true),
      m: () => {
        const names = ["cells", "lines", "off"];
        this.map = names[(names.indexOf(this.map) + 1) % names.length];
        this.cover();
      },
      "[": () => this.fade(-10),
      "]": () => this.fade(10),
      o: () => this.press("outline"),
      l: () => this.panes.length > 1 && this.press("link"),
      f: () => document.fullscreenEnabled && this.press("full"),
      "?": () => this.keys(),
    };
    const arrow = arrows[event.key];
    if (arrow && event.shiftKey) film.shift(-arrow[1] / 50, arrow[0] / 50);
    else if (arrow) this.pane.move(STEP * arrow[0], STEP * arrow[1]);
    else if (plain[event.key] ?? plain[event.key.toLowerCase()]) (plain[event.key] ?? plain[event.key.toLowerCase()])();
    else return;
    event.preventDefault();
  }

  fade(by) {
    this.tool("opacity").value = Number(this.tool("opacity").value) + by;
    this.dress();
  }

  focus(target) {
    const section = target.closest(".mm-pane");
    const index = this.panes.findIndex((pane) => pane.section === section);
    if (index >= 0) this.active = index;
    this.writeActive();
  }

  focusPane(index) {
    this.active = index;
    this.panes[index]?.osd.canvas.focus({ preventScroll: true });
    this.writeActive();
  }

  writeActive() {
    for (const [index, pane] of this.panes.entries()) pane.section.classList.toggle("mm-pane-active", index === this.active);
    if (this.pane) this.mark("invert", this.pane.film.inverted);
  }

  closed() {
    if (this.dialog.open) return; // opened again before the browser said that it was closed
    if (document.fullscreenElement) document.exitFullscreen();
    document.documentElement.classList.remove("mm-viewing");
    this.peek(false);
    this.find(".mm-viewer-keys").hidden = true;
    this.tool("keys").setAttribute("aria-expanded", "false");
    for (const pane of this.panes) pane.destroy();
    for (const film of Object.values(this.films)) film.forget();
    this.panes = [];
    this.films = {};
  }
}
