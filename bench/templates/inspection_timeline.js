// The timeline: one canvas that shows [t0, t1) of all lanes, sticky in a box that scrolls them.
class Timeline extends TimelinePainting {
  static GROUP = 22;
  static LEAST_NS = 40;

  constructor(box, data) {
    super();
    this.data = data;
    this.box = box;
    for (const id of ["canvas", "overview", "lanes", "lanes-space", "tip", "picked", "status"]) this[id.replace("-s", "S")] = box.querySelector(`#${id}`);
    this.labels = box.dataset.labels.split("\n");
    this.colorIds = box.dataset.colors.trim().split(/\s+/);
    this.short = data.names.map(shortName);
    this.span = Math.max(data.span, 1);
    this.depth = data.lanes.length > 12 ? 4 : 8;
    box.querySelector("#depth").value = this.depth;
    this.query = "";
    this.pickedEvent = null;
    this.frames = [];
    this.readTheme();
    this.layOut();
    this.fit();
    new TimelineInput(this);
    new ResizeObserver(() => { this.layOut(); this.drawNow(); }).observe(this.lanes);
    this.lanes.addEventListener("scroll", () => this.redraw());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { this.readTheme(); this.redraw(); });
  }

  // Places

  layOut() {
    const width = this.lanes.clientWidth;
    this.narrow = width < 640;
    this.gutter = this.narrow ? 0 : 170;
    this.width = Math.max(width - this.gutter, 50);
    let y = Timeline.RULER, group = null;
    this.places = [];
    for (const lane of this.data.lanes) {
      const heading = lane.group !== group ? Timeline.GROUP : 0;
      group = lane.group;
      const shown = Math.min(lane.rows.length, this.depth);
      const step = { gpu: 22, cpu: 15, idle: 10 }[lane.kind], above = this.narrow ? 15 : 0;
      const top = y + heading + above;
      this.places.push({ lane, y, heading, top, shown, step, bottom: top + shown * step + 5 });
      y = top + shown * step + 5;
    }
    this.total = y + 4;
    this.lanesSpace.style.height = `${this.total}px`;
    this.height = Math.min(this.total, this.lanes.clientHeight || this.total);
    for (const [canvas, w, h] of [[this.canvas, width, this.height], [this.overview, this.overview.clientWidth, this.overview.clientHeight]]) {
      const ratio = devicePixelRatio || 1, size = [Math.round(w * ratio), Math.round(h * ratio)];
      if (canvas.width === size[0] && canvas.height === size[1]) continue;
      [canvas.width, canvas.height] = size;
      if (canvas === this.canvas) canvas.style.height = `${h}px`;
      canvas.getContext("2d").setTransform(ratio, 0, 0, ratio, 0, 0);
    }
    this.density = null;
  }

  timeAt(x) { return this.t0 + (x - this.gutter) / this.width * (this.t1 - this.t0); }
  xOf(t) { return this.gutter + (t - this.t0) / (this.t1 - this.t0) * this.width; }

  // What is below a point of the canvas: an event, and how many others share its pixel.
  eventAt(x, y) {
    const down = y + this.lanes.scrollTop;
    const place = this.places.find((p) => down >= p.top && down < p.bottom);
    if (!place || y < Timeline.RULER || x < this.gutter) return null;
    const index = Math.min(Math.floor((down - place.top) / place.step), place.shown - 1);
    const row = place.lane.rows[index], time = this.timeAt(x), near = 2 * (this.t1 - this.t0) / this.width;
    let i = firstAbove(row.end, time, 0, false), best = -1, distance = near;
    for (const k of [i - 1, i]) {
      if (k < 0 || k >= row.start.length) continue;
      const away = Math.max(row.start[k] - time, time - row.end[k], 0);
      if (away < distance) [best, distance] = [k, away];
    }
    if (best < 0) return null;
    const pixel = near / 2, from = time - pixel / 2;
    const others = firstAbove(row.start, from + pixel, 0, true) - firstAbove(row.end, from, 0, false);
    return { lane: place.lane, row, rowIndex: index, i: best, others: row.end[best] - row.start[best] < pixel ? Math.max(others - 1, 0) : 0 };
  }

  // Moving

  show(t0, t1) {
    const margin = 0.02 * this.span, most = this.span + 2 * margin;
    const length = Math.min(Math.max(t1 - t0, Timeline.LEAST_NS), most);
    const middle = (t0 + t1) / 2;
    this.t0 = Math.min(Math.max(middle - length / 2, -margin), this.span + margin - length);
    this.t1 = this.t0 + length;
    this.redraw();
  }

  fit() { this.show(-0.01 * this.span, 1.01 * this.span); }
  zoom(factor, at = (this.t0 + this.t1) / 2) { this.show(at - (at - this.t0) * factor, at + (this.t1 - at) * factor); }
  pan(share) { const by = share * (this.t1 - this.t0); this.show(this.t0 + by, this.t1 + by); }
  get whole() { return this.t1 - this.t0 >= this.span; }

  showStep(by) {
    const steps = this.data.steps, middle = (this.t0 + this.t1) / 2;
    if (!steps.length) return;
    let at = steps.findIndex(([, start, dur]) => start + dur > middle);
    if (at < 0) at = steps.length - 1;
    if (!this.whole) at = Math.min(Math.max(at + by, 0), steps.length - 1);
    const [, start, dur] = steps[at];
    this.show(start - 0.02 * dur, start + 1.02 * dur);
  }

  // Show one event with room around it, and its row.
  reveal(event) {
    const start = event.row.start[event.i], length = Math.max(event.row.end[event.i] - start, 1);
    if (start < this.t0 || start + length > this.t1 || length < (this.t1 - this.t0) / 200) this.show(start - 12 * length, start + 13 * length);
    if (event.rowIndex >= this.depth) this.setDepth(event.rowIndex + 1);
    const place = this.places.find((p) => p.lane === event.lane), y = place.top + event.rowIndex * place.step;
    const top = this.lanes.scrollTop + Timeline.RULER, bottom = this.lanes.scrollTop + this.height - place.step;
    if (y < top || y > bottom) this.lanes.scrollTop = y - this.height / 2;
  }

  setDepth(rows) { this.depth = rows; this.layOut(); this.layOut(); this.redraw(); }

  // Search

  search(query) {
    this.query = query.trim().toLowerCase();
    this.matches = null;
    this.matchAt = -1;
    if (this.query) {
      const names = this.data.names.map((n) => n.toLowerCase().includes(this.query));
      const parts = this.labels.map((l) => l.toLowerCase().includes(this.query));
      const wanted = (row, i) => names[row.name[i]] || parts[row.part[i]];
      this.matches = new Map();
      this.matchList = [];
      this.matchNs = 0;
      for (const lane of this.data.lanes) lane.rows.forEach((row, rowIndex) => {
        const kept = filterRow(row, wanted);
        this.matches.set(row, kept);
        this.matchNs += kept.sum[kept.start.length];
        for (const i of kept.from) this.matchList.push({ lane, row, rowIndex, i, others: 0 });
      });
      this.matchList.sort((a, b) => a.row.start[a.i] - b.row.start[b.i]);
    }
    this.redraw();
  }

  nextMatch(by) {
    if (!this.matches || !this.matchList.length) return;
    const n = this.matchList.length;
    if (this.matchAt < 0) {
      const first = this.matchList.findIndex((e) => e.row.start[e.i] >= this.t0);
      this.matchAt = by > 0 ? Math.max(first, 0) : (Math.max(first, 0) + n - 1) % n;
    } else this.matchAt = (this.matchAt + by + n) % n;
    this.pick(this.matchList[this.matchAt]);
    this.reveal(this.pickedEvent);
  }

  // Words

  facts(event) {
    const { lane, row, i } = event, start = row.start[i], length = row.end[i] - start;
    const rows = [["Component", this.labels[row.part[i]]], ["Start", inWords(start, 9)], ["Duration", inWords(length)]];
    const below = lane.rows[event.rowIndex + 1];
    if (lane.kind === "cpu" && below) rows.push(["Self", inWords(length - covered(below, start, start + length))]);
    rows.push([{ gpu: "Stream", cpu: "Thread", idle: "Lane" }[lane.kind], `${lane.title}, ${lane.group}`]);
    if (Number.isFinite(row.delay[i])) rows.push(["Launch delay", inWords(row.delay[i])]);
    if (event.others > 0) rows.push(["In this pixel", `${event.others} more; zoom in`]);
    return rows;
  }

  // All events of a name, for the event that was picked.
  ofName(event) {
    const name = event.row.name[event.i];
    let n = 0, sum = 0, most = 0;
    for (const lane of this.data.lanes) for (const row of lane.rows) {
      for (let i = 0; i < row.name.length; i++) if (row.name[i] === name) {
        const length = row.end[i] - row.start[i];
        n++;
        sum += length;
        if (length > most) most = length;
      }
    }
    return [["All of this name", `${n}, sum ${inWords(sum)}, mean ${inWords(sum / n)}, longest ${inWords(most)}`]];
  }

  // The call that launched a kernel: the deepest of its thread that ended when the delay began.
  launchOf(event) {
    const { row, i } = event, lane = this.data.lanes[row.launcher[i]];
    if (!lane || !Number.isFinite(row.delay[i])) return null;
    const ended = row.start[i] - row.delay[i];
    for (let rowIndex = lane.rows.length - 1; rowIndex >= 0; rowIndex--) {
      const calls = lane.rows[rowIndex], at = firstAbove(calls.end, ended, 0, true);
      if (calls.end[at] === ended) return { lane, row: calls, rowIndex, i: at, others: 0 };
    }
    return null;
  }

  nameOf(event) { return this.data.names[event.row.name[event.i]]; }

  fill(box, event, rows) {
    const title = document.createElement("b"), list = document.createElement("dl");
    title.textContent = this.nameOf(event);
    for (const [key, value] of rows) for (const [tag, text] of [["dt", key], ["dd", value]]) {
      const made = document.createElement(tag);
      made.textContent = text;
      list.append(made);
    }
    box.replaceChildren(title, list);
    box.hidden = false;
  }

  pick(event) {
    this.pickedEvent = event;
    this.picked.hidden = !event;
    if (event) {
      this.fill(this.picked, event, [...this.facts({ ...event, others: 0 }), ...this.ofName(event)]);
      const tools = document.createElement("div");
      tools.className = "tools";
      const add = (text, act) => {
        const button = document.createElement("button");
        button.type = "button";
        button.textContent = text;
        button.addEventListener("click", act);
        tools.append(button);
      };
      const start = event.row.start[event.i], length = Math.max(event.row.end[event.i] - start, 1);
      const launch = this.launchOf(event);
      add("Zoom to it", () => { this.show(start - 0.3 * length, start + 1.3 * length); this.reveal(event); });
      add("Find all of this name", () => this.find(this.nameOf(event)));
      if (launch) add("Go to its launch", () => { this.pick(launch); this.reveal(launch); });
      add("Unpin", () => this.pick(null));
      this.picked.append(tools);
    }
    this.redraw();
  }

  find(text) {
    const input = this.box.querySelector("#find");
    input.value = text;
    this.search(text);
  }

  tell() {
    let text = this.whole ? `All ${inWords(this.span)}` : `${inWords(this.t1 - this.t0)} of ${inWords(this.span)}, from ${inWords(Math.max(this.t0, 0), 6)}`;
    if (this.narrow && this.base) text += `; times are after ${inWords(this.base, 9)}`;
    if (this.range) text = `Range of ${inWords(Math.abs(this.range[1] - this.range[0]), 5)}`;
    else if (this.matches) text += `. Found ${this.matchList.length}, sum ${inWords(this.matchNs)}${this.matchAt >= 0 ? `, at ${this.matchAt + 1}` : ""}`;
    if (this.status.textContent !== text) this.status.textContent = text;
  }

  redraw() {
    if (this.waiting) return;
    this.waiting = requestAnimationFrame(() => {
      this.waiting = 0;
      this.drawNow();
    });
  }

  // At once where a canvas was emptied by a new size: a frame later it would flicker.
  drawNow() {
    const began = performance.now();
    this.draw();
    this.drawOverview();
    this.tell();
    this.frames.push(performance.now() - began);
    if (this.frames.length > 500) this.frames.shift();
  }
}
