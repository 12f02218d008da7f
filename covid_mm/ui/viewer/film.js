// One image or stack as the viewer shows it: its pictures, the slice, and the window through which it is seen.
// Levels are in the file's own units (Hounsfield units of a CT) where the server knows them, else grey levels 0..255.
const MOST_KEPT = 160; // pictures in memory; the oldest go first
const AHEAD = 7; // slices fetched along with one, in the direction of travel: one answer holds eight
const SETTLE = 250; // ms after the last movement until the server draws anew through the window
const GREY = { level: 127.5, width: 255 };

const toBlobUrl = async (url) => (url.startsWith("data:") ? URL.createObjectURL(await (await fetch(url)).blob()) : url);

export class Film extends EventTarget {
  // load: (frames, window) -> { count, frame, windows, shown, range, pictures }; preview: a smaller picture of it. remark: to be said
  // of it always.
  constructor(modality, { load, preview = null, choice = null, remark = "" }) {
    super();
    this.modality = modality;
    this.load = load;
    this.remark = remark;
    this.kept = new Map(); // `frame window` -> picture
    this.count = 1;
    this.index = choice?.frame ?? null;
    this.windows = [];
    this.window = choice ?? {}; // with what else the slot chose; as the slots write it: { window, level, width }
    this.range = [0, 255];
    this.shown = GREY; // of the pixels at hand
    this.wanted = null; // what is asked of them, where that is another window
    this.inverted = false;
    this.picture = preview;
    this.note = preview ? "loading" : "";
    this.error = "";
    this.serial = 0;
  }

  tell(name) {
    this.dispatchEvent(new Event(name));
  }

  key(frame) {
    const { window, level, width } = this.window;
    return `${frame} ${window === "free" ? `${level} ${width}` : (window ?? "")}`;
  }

  // The picture of the present slice and window, with its neighbours; the last that was asked for wins.
  async fetch(step = 0) {
    const mine = (this.serial += 1);
    const frame = this.index;
    const kept = frame === null ? null : this.kept.get(this.key(frame));
    if (kept) this.put(kept);
    const frames = frame === null ? [] : this.missing(frame, step);
    if (kept && frames.length <= AHEAD / 2) return;
    if (!kept) {
      this.note = "loading";
      this.tell("note");
    }
    if (this.busy) {
      this.again = step; // one request at a time: what lies between is never fetched
      return;
    }
    this.busy = true;
    const asked = { ...this.window };
    try {
      const answer = await this.load(frames, asked);
      const first = this.index === null || this.count !== answer.count;
      this.index ??= answer.frame;
      Object.assign(this, { count: answer.count, windows: answer.windows ?? [], range: answer.range ?? this.range });
      for (const [number, picture] of Object.entries(answer.pictures)) {
        const shown = answer.shown ?? GREY;
        const entry = { ...picture, url: await toBlobUrl(picture.url), shown, measured: Boolean(answer.windows?.length) };
        this.keep(number, asked, entry);
      }
      this.error = "";
      if (first) this.tell("slice");
      const arrived = this.kept.get(this.key(this.index));
      if (arrived) this.put(arrived);
    } catch (error) {
      if (mine === this.serial) {
        this.error = error.message;
        this.note = "failed";
        this.tell("note");
      }
    } finally {
      this.busy = false;
    }
    if (this.again !== undefined && mine !== this.serial) {
      const again = this.again;
      this.again = undefined;
      await this.fetch(again);
    }
  }

  // Step by step the next ones come along; after a jump it is the one alone, which is there sooner.
  missing(frame, step) {
    const ahead = Math.abs(step) === 1 ? AHEAD : 0;
    const near = Array.from({ length: ahead + 1 }, (_, far) => frame + Math.sign(step) * far);
    return near.filter((k) => k >= 0 && (k < this.count || k === frame) && !this.kept.has(this.key(k)));
  }

  keep(number, window, entry) {
    const before = this.window;
    this.window = window;
    this.kept.set(this.key(Number(number)), entry);
    this.window = before;
    while (this.kept.size > MOST_KEPT) {
      const [oldest, old] = this.kept.entries().next().value;
      this.kept.delete(oldest);
      if (old.url.startsWith("blob:") && old !== this.picture) URL.revokeObjectURL(old.url);
    }
  }

  put(picture) {
    this.picture = picture;
    this.shown = picture.shown;
    const { window } = this.window;
    // what was being dragged towards has arrived
    if (this.wanted && window === "free" && this.wanted.level === this.shown.level && this.wanted.width === this.shown.width) {
      this.wanted = null;
    }
    this.note = "";
    this.tell("picture");
    this.tell("note");
    this.tell("grey");
  }

  show(index) {
    const next = Math.max(0, Math.min(this.count - 1, index));
    if (next === this.index) return;
    const step = next - (this.index ?? next);
    this.index = next;
    this.tell("slice");
    this.fetch(step);
  }

  // Level and width as they are seen, and the part of the pixels' scale that they take up: 0 black, 1 white.
  get grey() {
    return this.wanted ?? this.shown;
  }

  get span() {
    const { level, width } = this.grey;
    const { level: centre, width: whole } = this.shown;
    const at = (value) => (value - (centre - whole / 2)) / whole;
    return [at(level - width / 2), at(level + width / 2)];
  }

  get redrawn() {
    return this.windows.includes("free") && this.picture?.measured;
  }

  // Shares of the whole range: how far the level goes up, how much wider the window gets.
  shift(level, width) {
    const [low, high] = this.range;
    const whole = high - low;
    const now = this.grey;
    const least = whole / 256;
    this.wanted = {
      level: Math.round(10 * Math.max(low, Math.min(high, now.level + level * whole))) / 10,
      width: Math.round(10 * Math.max(least, Math.min(2 * whole, now.width + width * whole))) / 10,
    };
    this.tell("grey");
    if (!this.redrawn) return;
    clearTimeout(this.settling);
    this.settling = setTimeout(() => {
      if (!this.wanted) return;
      this.window = { window: "free", ...this.wanted };
      this.tell("window");
      this.fetch();
    }, SETTLE);
  }

  choose(name) {
    this.wanted = null;
    clearTimeout(this.settling);
    this.window = name === "free" ? { window: "free", ...this.shown } : { window: name };
    this.tell("window");
    this.fetch();
  }

  invert() {
    this.inverted = !this.inverted;
    this.tell("grey");
  }

  reset(choice) {
    this.inverted = false;
    this.wanted = null;
    clearTimeout(this.settling);
    this.window = choice ?? {};
    this.tell("window");
    this.tell("grey");
    this.fetch();
  }

  forget() {
    clearTimeout(this.settling);
    this.serial += 1;
    for (const { url } of this.kept.values()) if (url.startsWith("blob:")) URL.revokeObjectURL(url);
    this.kept.clear();
  }
}
