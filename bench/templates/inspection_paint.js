// What the timeline looks like: colours, and how what is in view gets onto the canvases.
class TimelinePainting {
  static RULER = 34;

  readTheme() {
    const style = getComputedStyle(document.documentElement);
    const color = (name) => style.getPropertyValue(`--${name}`).trim();
    this.theme = Object.fromEntries(["text", "muted", "line", "card", "lane", "accent", "page"].map((n) => [n, color(n)]));
    const channels = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
    const back = channels(this.theme.card);
    this.fills = this.data.parts.map(([, phase], i) => {
      const full = channels(color(`c${this.colorIds[i]}`));
      const mixed = phase === "backward" ? full.map((v, k) => Math.round(0.55 * v + 0.45 * back[k])) : full;
      const light = 0.299 * mixed[0] + 0.587 * mixed[1] + 0.114 * mixed[2] > 140;
      return { fill: `rgb(${mixed.join(" ")})`, ink: light ? "#10151d" : "#ffffff" };
    });
  }

  draw() {
    const g = this.canvas.getContext("2d"), { theme } = this, scroll = this.lanes.scrollTop;
    g.fillStyle = theme.card;
    g.fillRect(0, 0, this.gutter + this.width, this.height);
    g.font = "12px system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', Arial, sans-serif";
    g.textBaseline = "middle";
    const ticks = this.ticks();
    for (const place of this.places) {
      if (place.bottom - scroll < TimelinePainting.RULER || place.y - scroll > this.height) continue;
      this.drawLane(g, place, -scroll, ticks);
    }
    this.drawSteps(g);
    this.drawPicked(g, scroll);
    this.drawRuler(g, ticks);
    if (this.range) {
      const [a, b] = this.range.map((t) => this.xOf(t));
      g.fillStyle = theme.accent;
      g.globalAlpha = 0.2;
      g.fillRect(Math.min(a, b), 0, Math.abs(b - a), this.height);
      g.globalAlpha = 1;
    }
  }

  drawLane(g, place, dy, ticks) {
    const { lane, top, shown, step } = place, { theme } = this;
    if (place.heading) {
      g.fillStyle = theme.text;
      g.font = g.font.replace(/^(\d+px)/, "600 $1");
      g.fillText(this.clip(g, lane.group, this.gutter + this.width - 12), 8, place.y + dy + 13);
      g.font = g.font.replace(/^(bold|600) /, "");
    }
    g.fillStyle = theme.lane;
    g.fillRect(this.gutter, top + dy, this.width, shown * step);
    g.fillStyle = theme.line;
    for (const t of ticks.at) g.fillRect(Math.round(this.xOf(t)), top + dy, 1, shown * step);
    g.fillStyle = theme.muted;
    const hidden = lane.rows.length > shown ? ` (${shown} of ${lane.rows.length} rows)` : "";
    if (this.narrow) g.fillText(this.clip(g, lane.title + hidden, this.width - 12), 8, top + dy - 7);
    else {
      g.fillText(this.clip(g, lane.title, this.gutter - 20), 12, top + dy + Math.min(step, 16) / 2 + 1);
      if (hidden && shown > 1) g.fillText(hidden.slice(2, -1), 12, top + dy + step * 1.5 + 2);
    }
    g.save();
    g.beginPath();
    g.rect(this.gutter, top + dy, this.width, shown * step);
    g.clip();
    for (let r = 0; r < shown; r++) this.drawRow(g, lane.rows[r], top + dy + r * step, step - 1);
    g.restore();
  }

  drawRow(g, row, y, height) {
    const match = this.matches?.get(row);
    this.paint(g, row, y, height, match ? 0.16 : 1, 0.35, !match);
    if (match) this.paint(g, match, y, height, 1, 0.75, true);
  }

  paint(g, row, y, height, strength, least, named) {
    const labels = [];
    let x0 = 0, x1 = -1, part = -1, alpha = -1;
    const flush = () => {
      if (x1 <= x0) return;
      g.globalAlpha = alpha;
      g.fillStyle = this.fills[part].fill;
      g.fillRect(this.gutter + x0, y, x1 - x0, height);
    };
    pieces(row, this.t0, this.t1, this.width, (first, next, left, right, p, share) => {
      // Few and short events stay visible; eight steps of strength are enough and let neighbours be drawn as one.
      const a = strength * (least + (1 - least) * Math.ceil(share * 8) / 8);
      const single = right - left >= 3;
      if (p !== part || a !== alpha || left > x1 + 0.01 || single) {
        flush();
        [x0, part, alpha] = [left, p, a];
      }
      x1 = single ? right - 0.6 : right;
      if (named && height > 11 && right - left > 26) labels.push([row.name[first], left, right, p]);
    });
    flush();
    g.globalAlpha = 1;
    for (const [name, left, right, p] of labels) {
      g.fillStyle = this.fills[p].ink;
      const text = this.clip(g, this.short[name], right - left - 7);
      if (text.length > 2) g.fillText(text, this.gutter + left + 4, y + height / 2 + 0.5);
    }
  }

  clip(g, text, width) {
    const most = Math.floor(width / 4);
    let cut = text.length > most ? text.slice(0, Math.max(most, 0)) : text;
    const limit = width / g.measureText(cut || "m").width;
    if (limit >= 1 && cut === text) return text;
    if (limit < 1) cut = cut.slice(0, Math.max(Math.floor(cut.length * limit) - 1, 0));
    while (cut && g.measureText(`${cut}…`).width > width) cut = cut.slice(0, -1);
    return cut ? `${cut}…` : "";
  }

  ticks() {
    const length = this.t1 - this.t0, most = Math.max(2, Math.floor(this.width / (this.narrow ? 80 : 110)));
    const rough = length / most, power = 10 ** Math.floor(Math.log10(rough));
    const step = Math.max(1, [1, 2, 5, 10].find((m) => m * power >= rough) * power);
    // 884.1 ms rather than 884100 µs; where that needs too many digits, what is after a round time.
    let at0 = UNITS.indexOf(unitOf(step));
    if (this.t1 >= 1000 * UNITS[at0][0] && at0 > 0) at0--;
    const [factor, unit] = UNITS[at0];
    const base = this.t1 >= 10000 * factor && at0 > 0 ? Math.floor(Math.max(this.t0, 0) / (1000 * factor)) * 1000 * factor : 0;
    this.base = base;
    const at = [];
    for (let t = Math.ceil(this.t0 / step) * step; t < this.t1; t += step) if (t >= 0 || length > this.span) at.push(t);
    const text = (t) => `${base ? "+" : ""}${Number(((t - base) / factor).toFixed(3))} ${unit}`;
    return { at: at.filter((t) => t > -step / 2), text, base };
  }

  drawRuler(g, ticks) {
    const { theme } = this, bottom = TimelinePainting.RULER;
    g.fillStyle = theme.card;
    g.fillRect(0, 0, this.gutter + this.width, bottom - 1);
    g.fillStyle = theme.line;
    g.fillRect(0, bottom - 1, this.gutter + this.width, 1);
    g.fillStyle = theme.muted;
    if (ticks.base && !this.narrow) g.fillText(`${inWords(ticks.base, 9)} and`, 12, 23);
    let free = this.gutter;
    for (const t of ticks.at) {
      const text = ticks.text(t), wide = g.measureText(text).width, x = this.xOf(t);
      g.fillRect(Math.round(x), bottom - 6, 1, 5);
      const left = x - wide / 2;
      if (left < free + 6 || left + wide > this.gutter + this.width - 2) continue;
      g.fillText(text, left, 22);
      free = left + wide;
    }
    this.nameSteps(g);
  }

  drawSteps(g) {
    g.strokeStyle = this.theme.muted;
    g.setLineDash([4, 3]);
    g.beginPath();
    for (const [, start, dur] of this.data.steps) for (const t of [start, start + dur]) {
      const x = Math.round(this.xOf(t)) + 0.5;
      if (x < this.gutter || x > this.gutter + this.width) continue;
      g.moveTo(x, TimelinePainting.RULER);
      g.lineTo(x, this.height);
    }
    g.globalAlpha = 0.6;
    g.stroke();
    g.globalAlpha = 1;
    g.setLineDash([]);
  }

  nameSteps(g) {
    for (const [name, start, dur] of this.data.steps) {
      const left = Math.max(this.xOf(start), this.gutter), right = Math.min(this.xOf(start + dur), this.gutter + this.width);
      if (right - left < 3) continue;
      g.fillStyle = this.theme.accent;
      g.fillRect(left + 0.5, 13, Math.max(right - left - 1, 1), 1.5);
      const text = this.clip(g, name, right - left - 6);
      if (text.length > 3) {
        g.fillStyle = this.theme.text;
        g.fillText(text, left + 3, 6.5);
      }
    }
  }

  drawPicked(g, scroll) {
    const event = this.pickedEvent, place = event && this.places.find((p) => p.lane === event.lane);
    if (!place || event.rowIndex >= place.shown) return;
    const left = Math.max(this.xOf(event.row.start[event.i]), this.gutter);
    const right = Math.min(this.xOf(event.row.end[event.i]), this.gutter + this.width);
    const y = place.top + event.rowIndex * place.step - scroll;
    g.strokeStyle = this.theme.text;
    g.lineWidth = 2;
    if (right >= left) g.strokeRect(left - 1, y - 1, Math.max(right - left, 2) + 2, place.step + 1);
    g.lineWidth = 1.5;
    this.drawLaunch(g, event, y, scroll);
    g.lineWidth = 1;
  }

  // From the launch call to the kernel.
  drawLaunch(g, event, y, scroll) {
    const launch = this.launchOf(event), place = launch && this.places.find((p) => p.lane === launch.lane);
    if (!place) return;
    const from = this.xOf(launch.row.end[launch.i]), to = this.xOf(event.row.start[event.i]);
    const callY = place.top + (Math.min(launch.rowIndex, place.shown - 1) + 0.5) * place.step - scroll;
    g.save();
    g.beginPath();
    g.rect(this.gutter, TimelinePainting.RULER, this.width, this.height);
    g.clip();
    g.strokeStyle = this.theme.accent;
    g.beginPath();
    g.moveTo(from, callY);
    g.bezierCurveTo((from + to) / 2, callY, (from + to) / 2, y + 10, to, y + 10);
    g.stroke();
    const left = this.xOf(launch.row.start[launch.i]);
    g.strokeRect(left - 1, callY - place.step / 2 - 1, Math.max(from - left, 2) + 2, place.step + 1);
    g.restore();
  }

  // The whole trace: the share of each pixel that the busiest stream covers
  // (without a GPU: how deep the calls of all threads are), and where the view is.
  drawOverview() {
    const g = this.overview.getContext("2d"), width = this.overview.clientWidth, height = this.overview.clientHeight;
    this.density ??= this.computeDensity(Math.max(1, Math.floor(width)));
    g.fillStyle = this.theme.lane;
    g.fillRect(0, 0, width, height);
    g.fillStyle = this.theme.muted;
    this.density.forEach((share, x) => { if (share > 0) g.fillRect(x, height, 1, -Math.max(2, share * (height - 4))); });
    const x0 = Math.max(0, this.t0 / this.span * width), x1 = Math.min(width, this.t1 / this.span * width);
    g.fillStyle = this.theme.card;
    g.globalAlpha = 0.65;
    g.fillRect(0, 0, x0, height);
    g.fillRect(x1, 0, width - x1, height);
    g.globalAlpha = 1;
    g.strokeStyle = this.theme.accent;
    g.lineWidth = 2;
    g.strokeRect(Math.min(x0 + 1, width - 4), 1, Math.max(x1 - x0 - 2, 3), height - 2);
  }

  computeDensity(width) {
    const onGpu = this.data.lanes.some((lane) => lane.kind === "gpu" && lane.n);
    const lanes = this.data.lanes.filter((lane) => lane.n && lane.kind === (onGpu ? "gpu" : "cpu"));
    const step = this.span / width, rows = lanes.flatMap((lane) => lane.rows);
    const shares = (x) => rows.map((row) => covered(row, x * step, (x + 1) * step) / step);
    if (onGpu) return Float32Array.from({ length: width }, (_, x) => Math.min(1, Math.max(0, ...shares(x))));
    const depths = Float32Array.from({ length: width }, (_, x) => shares(x).reduce((a, b) => a + b, 0));
    const deepest = depths.reduce((a, b) => Math.max(a, b), 1e-9);
    return depths.map((depth) => depth / deepest);
  }
}
