// What mouse, fingers, keys and buttons do to a timeline.
class TimelineInput {
  static SCROLL_PAUSE_MS = 250;

  constructor(view) {
    this.view = view;
    this.fingers = new Map();
    this.pageScrolled = -Infinity;
    this.watch(view.canvas);
    this.watchOverview(view.overview);
    this.buttons();
    addEventListener("scroll", () => { this.pageScrolled = performance.now(); }, { passive: true });
  }

  watch(canvas) {
    canvas.addEventListener("wheel", (e) => this.wheel(e), { passive: false });
    canvas.addEventListener("pointerdown", (e) => this.down(e));
    canvas.addEventListener("pointermove", (e) => this.move(e));
    canvas.addEventListener("pointerup", (e) => this.up(e));
    canvas.addEventListener("pointercancel", (e) => { this.fingers.delete(e.pointerId); this.done(); });
    canvas.addEventListener("pointerleave", () => { this.view.tip.hidden = true; });
    canvas.addEventListener("keydown", (e) => this.key(e));
  }

  // A page that is being scrolled goes on scrolling when the timeline comes below the mouse.
  wheel(e) {
    const { view } = this;
    if (performance.now() - this.pageScrolled < TimelineInput.SCROLL_PAUSE_MS) return;
    const sideways = e.shiftKey || Math.abs(e.deltaX) > Math.abs(e.deltaY);
    if (e.offsetX < view.gutter || (!sideways && e.deltaY > 0 && view.whole)) return;
    e.preventDefault();
    const amount = Math.max(-240, Math.min(240, (sideways ? e.deltaX || e.deltaY : e.deltaY) * (e.deltaMode === 1 ? 30 : 1)));
    if (sideways) view.pan(amount / view.width);
    else view.zoom(Math.exp(amount * (e.ctrlKey ? 0.01 : 0.0022)), view.timeAt(e.offsetX));
    this.hover(e);
  }

  down(e) {
    if (e.button > 0) return;
    const { view } = this;
    this.fingers.set(e.pointerId, e);
    view.canvas.setPointerCapture(e.pointerId);
    view.canvas.focus({ preventScroll: true });
    this.origin = { x: e.offsetX, y: e.offsetY, t0: view.t0, t1: view.t1, scroll: view.lanes.scrollTop, moved: false };
    if (this.fingers.size === 2) this.spread = this.between();
    if (e.shiftKey) view.range = [view.timeAt(e.offsetX), view.timeAt(e.offsetX)];
  }

  between() {
    const [a, b] = [...this.fingers.values()];
    return { length: Math.max(Math.abs(a.offsetX - b.offsetX), 8), middle: (a.offsetX + b.offsetX) / 2 };
  }

  move(e) {
    const { view, origin } = this;
    if (!this.fingers.has(e.pointerId)) return this.hover(e);
    this.fingers.set(e.pointerId, e);
    if (this.fingers.size === 2) return this.pinch();
    const dx = e.offsetX - origin.x, dy = e.offsetY - origin.y;
    if (!origin.moved && Math.hypot(dx, dy) < 4) return undefined;
    origin.moved = true;
    view.tip.hidden = true;
    if (view.range) {
      view.range[1] = view.timeAt(e.offsetX);
      return view.redraw();
    }
    view.canvas.classList.add("dragging");
    const by = dx / view.width * (origin.t1 - origin.t0);
    view.show(origin.t0 - by, origin.t1 - by);
    if (e.pointerType === "mouse") view.lanes.scrollTop = origin.scroll - dy;
    return undefined;
  }

  pinch() {
    const { view } = this, now = this.between();
    const at = view.timeAt(this.spread.middle);
    view.zoom(this.spread.length / now.length, at);
    view.pan((this.spread.middle - now.middle) / view.width);
    this.spread = now;
    this.origin.moved = true;
  }

  up(e) {
    const { view, origin } = this;
    if (!this.fingers.delete(e.pointerId)) return;
    if (view.range) {
      const [a, b] = view.range;
      view.range = null;
      if (origin.moved) view.show(Math.min(a, b), Math.max(a, b));
    } else if (!origin.moved) {
      view.pick(view.eventAt(e.offsetX, e.offsetY));
      if (e.pointerType !== "mouse") this.hover(e);
    }
    this.done();
    if (this.fingers.size) {
      const [left] = this.fingers.values();
      this.origin = { x: left.offsetX, y: left.offsetY, t0: view.t0, t1: view.t1, scroll: view.lanes.scrollTop, moved: true };
    }
  }

  done() {
    this.view.canvas.classList.remove("dragging");
    this.view.redraw();
  }

  hover(e) {
    const { view } = this, event = view.eventAt(e.offsetX, e.offsetY), { tip } = view;
    if (!event) {
      tip.hidden = true;
      return;
    }
    view.fill(tip, event, view.facts(event));
    const box = view.box.getBoundingClientRect();
    const x = e.clientX - box.left, y = e.clientY - box.top;
    tip.style.left = `${Math.max(0, Math.min(x + 14, box.width - tip.offsetWidth - 2))}px`;
    const below = e.clientY + 18 + tip.offsetHeight < innerHeight;
    tip.style.top = `${below ? y + 18 : y - tip.offsetHeight - 12}px`;
  }

  key(e) {
    if (e.ctrlKey || e.metaKey || e.altKey) return;
    const { view } = this, scroll = (by) => { view.lanes.scrollTop += by; };
    const acts = {
      w: () => view.zoom(0.7), "+": () => view.zoom(0.7), "=": () => view.zoom(0.7), s: () => view.zoom(1 / 0.7), "-": () => view.zoom(1 / 0.7),
      a: () => view.pan(-0.2), ArrowLeft: () => view.pan(-0.2), d: () => view.pan(0.2), ArrowRight: () => view.pan(0.2),
      ArrowUp: () => scroll(-60), ArrowDown: () => scroll(60), PageUp: () => scroll(-view.height), PageDown: () => scroll(view.height),
      0: () => view.fit(), Home: () => view.fit(), "[": () => view.showStep(-1), "]": () => view.showStep(1),
      n: () => view.nextMatch(1), N: () => view.nextMatch(-1), Enter: () => this.pickMiddle(),
      "/": () => view.box.querySelector("#find").focus(), Escape: () => { view.tip.hidden = true; view.pick(null); },
    };
    const act = acts[e.key];
    if (!act) return;
    e.preventDefault();
    act();
  }

  // With a search the next match, else what is below the middle of the highest lane that has something there.
  pickMiddle() {
    const { view } = this;
    if (view.matches) return view.nextMatch(1);
    for (const { lane } of view.places) {
      const row = lane.rows[0], i = firstAbove(row.end, (view.t0 + view.t1) / 2, 0, false);
      if (i < row.start.length && row.start[i] < view.t1) return view.pick({ lane, row, rowIndex: 0, i, others: 0 });
    }
    return undefined;
  }

  watchOverview(canvas) {
    const { view } = this;
    let held = false;
    const go = (e) => {
      if (!held) return;
      const at = e.offsetX / canvas.clientWidth * view.span, half = (view.t1 - view.t0) / 2;
      view.show(at - half, at + half);
    };
    canvas.addEventListener("pointerdown", (e) => { held = true; canvas.setPointerCapture(e.pointerId); go(e); });
    canvas.addEventListener("pointermove", go);
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => { held = false; });
  }

  buttons() {
    const { view } = this, find = view.box.querySelector("#find");
    const on = (id, act) => view.box.querySelector(`#${id}`)?.addEventListener("click", act);
    on("zoom-in", () => view.zoom(0.5));
    on("zoom-out", () => view.zoom(2));
    on("zoom-fit", () => view.fit());
    on("zoom-step", () => view.showStep(0));
    on("step-last", () => view.showStep(-1));
    on("step-next", () => view.showStep(1));
    on("find-next", () => view.nextMatch(1));
    on("find-last", () => view.nextMatch(-1));
    find.addEventListener("input", () => view.search(find.value));
    find.addEventListener("keydown", (e) => {
      if (e.key === "Enter") view.nextMatch(e.shiftKey ? -1 : 1);
      if (e.key === "Escape") view.find("");
    });
    view.box.querySelector("#depth").addEventListener("change", (e) => view.setDepth(Number(e.target.value)));
  }
}
