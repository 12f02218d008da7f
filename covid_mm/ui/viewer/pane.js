// One view of a film: OpenSeadragon moves and zooms it, an SVG filter on its canvas sets the window, and the map and the
// lungs' outline lie over it as elements that the viewport carries along.
const OSD = window.OpenSeadragon;
const DRAG = 500; // CSS pixels of dragging for the whole range
const CHANNELS = ["feFuncR", "feFuncG", "feFuncB"];
let panes = 0;

export class Pane {
  // film: what is shown. mapped: whether its map lies over it, null where there is none. mode(): "pan" or "grey".
  // map(): "cells", "lines" or "off". moved(pane): it was moved or zoomed.
  constructor(section, film, { title, kind, mapped, texts, filters, mode, map, moved }) {
    this.film = film;
    this.section = section;
    this.texts = texts;
    this.mapped = mapped;
    this.moved = moved;
    this.mode = mode;
    this.map = map;
    panes += 1;
    this.find = (selector) => section.querySelector(selector);
    this.find("h3").textContent = mapped === null ? title : `${title}, ${kind}`;
    section.setAttribute("aria-label", this.find("h3").textContent);
    section.dataset.modality = film.modality;
    this.filter = this.makeFilter(filters, `mm-viewer-filter-${panes}`);
    this.osd = new OSD.Viewer({
      element: this.find(".mm-pane-image"),
      drawer: "canvas", // its element takes the filter on every machine
      showNavigationControl: false,
      keyboardNavEnabled: false,
      crossOriginPolicy: false,
      animationTime: matchMedia("(prefers-reduced-motion: reduce)").matches ? 0 : 0.25,
      immediateRender: true,
      visibilityRatio: 0.25,
      minZoomImageRatio: 0.5,
      maxZoomPixelRatio: 16,
      zoomPerScroll: 1.25,
      gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true, flickEnabled: false },
      gestureSettingsTouch: { flickEnabled: false, pinchRotate: false },
      gestureSettingsPen: { clickToZoom: false },
    });
    const canvas = this.osd.canvas;
    canvas.setAttribute("role", "application");
    canvas.setAttribute("aria-label", texts.picture.replace("{title}", title).replace("{kind}", kind));
    this.osd.drawer.canvas.style.filter = `url(#${this.filter.id})`;
    this.osd.addHandler("canvas-drag", (event) => this.drag(event));
    this.osd.addHandler("canvas-scroll", (event) => this.scroll(event));
    this.osd.addHandler("canvas-key", (event) => (event.preventDefaultAction = true)); // viewer.js has the keys
    this.osd.addHandler("viewport-change", () => {
      this.writeZoom();
      if (!this.following) this.moved(this);
    });
    this.osd.addHandler("resize", () => requestAnimationFrame(() => this.home && this.osd.viewport && this.fit(true)));
    for (const name of ["canvas-pinch", "canvas-double-click"]) this.osd.addHandler(name, () => (this.home = false));
    this.osd.addHandler("canvas-press", () => canvas.focus({ preventScroll: true }));
    this.osd.addHandler("open", () => this.writeZoom());
    this.listen("picture", () => this.draw());
    this.listen("grey", () => this.writeGrey());
    this.listen("note", () => this.writeNote());
    this.listen("slice", () => this.writeSlice());
    this.listen("window", () => this.writeWindows());
    this.find(".mm-pane-window").addEventListener("change", (event) => film.choose(event.target.value));
    this.find(".mm-pane-slices input").setAttribute("aria-label", texts.slice.replace("{title}", title));
    this.find(".mm-pane-slices input").addEventListener("input", (event) => film.show(Number(event.target.value)));
    this.writeNote();
    this.writeSlice();
    if (film.picture) this.draw();
    this.writeGrey();
  }

  listen(name, listener) {
    this.stop ??= new AbortController();
    this.film.addEventListener(name, listener, { signal: this.stop.signal });
  }

  makeFilter(parent, id) {
    const make = (name, values) => {
      const made = document.createElementNS(parent.namespaceURI, name);
      for (const [key, value] of Object.entries(values)) made.setAttribute(key, value);
      return made;
    };
    const filter = make("filter", { id, "color-interpolation-filters": "sRGB", x: 0, y: 0, width: 1, height: 1 });
    const transfer = make("feComponentTransfer", {});
    transfer.append(...CHANNELS.map((name) => make(name, { type: "linear", slope: 1, intercept: 0 })));
    filter.append(transfer);
    parent.append(filter);
    return filter;
  }

  // The picture takes the place of the one before it, without a gap and without moving.
  draw() {
    const { url, width, height } = this.film.picture;
    if (this.url === url) return;
    this.url = url;
    this.aspect = height / width;
    const mine = (this.drawing = (this.drawing ?? 0) + 1);
    const before = [...Array(this.osd.world.getItemCount()).keys()].map((row) => this.osd.world.getItemAt(row));
    this.osd.addTiledImage({
      tileSource: { type: "image", url },
      width: 1,
      success: ({ item }) => {
        if (mine !== this.drawing) return;
        const rest = () => before.forEach((old) => this.osd.world.getIndexOfItem(old) >= 0 && this.osd.world.removeItem(old));
        if (item.getFullyLoaded()) rest();
        else item.addOnceHandler("fully-loaded-change", rest);
        if (!this.fitted) this.fit(true); // the picture before may have been replaced before it was drawn
        this.fitted = true;
        this.writeZoom();
        this.section.dataset.drawn = `${this.film.index ?? ""}`;
      },
    });
    this.layOver();
  }

  // The map and the outline, in the frame of the image.
  cover(element) {
    if (this.over) this.osd.removeOverlay(this.over);
    this.over = element;
    this.layOver();
  }

  layOver() {
    if (!this.over || !this.aspect) return;
    const location = new OSD.Rect(0, 0, 1, this.aspect);
    if (this.osd.getOverlayById(this.over)) this.osd.updateOverlay(this.over, location);
    else this.osd.addOverlay({ element: this.over, location });
  }

  drag(event) {
    if (this.mode() !== "grey" && !event.shift) {
      this.home = false;
      return;
    }
    event.preventDefaultAction = true;
    this.film.shift(-event.delta.y / DRAG, event.delta.x / DRAG);
  }

  scroll(event) {
    event.preventDefault = true; // Ctrl and the wheel would zoom the page
    if (this.film.count < 2 || event.originalEvent.ctrlKey) {
      this.home = false;
      return;
    }
    event.preventDefaultAction = true;
    this.film.show((this.film.index ?? 0) + (event.scroll < 0 ? 1 : -1));
  }

  // Scale against the whole image in the pane, the middle as shares of the image, and whether the pane stays fitted.
  get view() {
    const { viewport } = this.osd;
    const centre = viewport.getCenter(false);
    return { scale: viewport.getZoom(false) / viewport.getHomeZoom(), x: centre.x, y: centre.y / (this.aspect ?? 1), home: this.home };
  }

  follow({ scale, x, y, home }) {
    const { viewport } = this.osd;
    if (!this.aspect || !viewport.getHomeZoom()) return;
    this.home = home; // not by the scale, which is another's while a pane's size changes
    this.following = true;
    viewport.zoomTo(scale * viewport.getHomeZoom(), null, true);
    viewport.panTo(new OSD.Point(x, y * this.aspect), true);
    this.osd.forceRedraw();
    this.following = false;
  }

  fit(immediately = false) {
    this.home = true; // it stays fitted when the pane's size changes
    this.osd.viewport.goHome(immediately);
  }

  zoom(factor) {
    this.home = false;
    this.osd.viewport.zoomBy(factor);
    this.osd.viewport.applyConstraints();
  }

  actual() {
    const item = this.osd.world.getItemAt(0);
    this.home = false;
    if (item) this.osd.viewport.zoomTo(item.imageToViewportZoom(1 / devicePixelRatio));
  }

  move(x, y) {
    this.home = false;
    this.osd.viewport.panBy(this.osd.viewport.deltaPointsFromPixels(new OSD.Point(x, y)));
    this.osd.viewport.applyConstraints();
  }

  writeZoom() {
    const count = this.osd.world.getItemCount();
    if (!count) return;
    const item = this.osd.world.getItemAt(count - 1);
    const width = this.film.picture?.width ?? item.getContentSize().x;
    // of the film's own pixels, also while a smaller picture stands in for it
    const share = (item.viewportToImageZoom(this.osd.viewport.getZoom(false)) * item.getContentSize().x) / width;
    const text = this.texts.zoom.replace("{percent}", Math.round(100 * share * devicePixelRatio));
    this.find(".mm-pane-zoom").value = this.film.note ? "" : text;
  }

  writeGrey() {
    const { film } = this;
    const [low, high] = film.span;
    const slope = (film.inverted ? -1 : 1) / (high - low);
    const intercept = (film.inverted ? high : -low) / (high - low);
    for (const part of this.filter.querySelectorAll(CHANNELS.join(","))) {
      part.setAttribute("slope", slope);
      part.setAttribute("intercept", intercept);
    }
    const { level, width } = film.grey;
    const text = this.texts.window.replace("{level}", Math.round(level)).replace("{width}", Math.round(width));
    this.find(".mm-pane-grey").value = film.note === "loading" && !film.picture?.shown ? "" : text;
    this.writeWindows();
  }

  writeWindows() {
    const select = this.find(".mm-pane-window");
    const names = this.film.windows;
    if (select.options.length !== names.length) {
      select.replaceChildren(...names.map((name) => new Option(this.texts[name] ?? name, name)));
    }
    select.hidden = names.length < 2;
    select.value = this.film.window.window ?? names[0] ?? "";
  }

  writeSlice() {
    const { count, index } = this.film;
    const label = this.find(".mm-pane-slices");
    const slider = label.querySelector("input");
    label.hidden = count < 2;
    slider.max = count - 1;
    slider.value = index ?? 0;
    label.querySelector("output").value = this.texts.of.replace("{number}", (index ?? 0) + 1).replace("{total}", count);
    this.writeNote();
  }

  writeNote() {
    const { film, texts } = this;
    const words = { loading: texts.loading, failed: `${film.error} ${film.picture ? texts.smaller : ""}` };
    const foreign = this.mapped && film.mapSlice !== undefined && film.index !== null && film.mapSlice !== film.index;
    const key = this.mapped && this.map() === "lines" ? texts.lines : film.remark;
    const whose = film.mapSlice === null ? texts.undrawn : texts.other.replace("{number}", film.mapSlice + 1);
    const other = foreign ? whose : key;
    this.find(".mm-pane-note").textContent = words[film.note] ?? other;
    this.section.dataset.note = film.note;
    this.over?.classList.toggle("mm-viewer-foreign", Boolean(foreign));
    this.writeZoom();
  }

  destroy() {
    this.stop?.abort();
    this.filter.remove();
    this.osd.destroy();
    this.section.remove();
  }
}
