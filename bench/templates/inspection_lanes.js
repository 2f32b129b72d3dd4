// The packed timeline (bench/inspection/lanes.py tells the format) as rows of typed arrays, and questions to them.
const unpackTimeline = async (text) => {
  const packed = atob(text);
  const bytes = new Uint8Array(packed.length);
  for (let i = 0; i < packed.length; i++) bytes[i] = packed.charCodeAt(i);
  const plain = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const content = new Uint8Array(await new Response(plain).arrayBuffer());
  const size = new DataView(content.buffer).getUint32(0, true);
  const head = JSON.parse(new TextDecoder().decode(content.subarray(4, 4 + size)));
  let at = 4 + size;
  const column = (n, width) => {
    const values = new Float64Array(n);
    for (let plane = 0, factor = 1; plane < width; plane++, factor *= 256, at += n) {
      for (let i = 0; i < n; i++) values[i] += factor * content[at + i];
    }
    return values;
  };
  head.lanes = head.lanes.map((lane) => {
    const [start, dur, name, part, row, delay, launcher] = lane.widths.map((width) => column(lane.n, width));
    for (let i = 1; i < lane.n; i++) start[i] += start[i - 1];
    for (let i = 0; i < lane.n; i++) {
      const odd = (delay[i] - 1) % 2;
      delay[i] = delay[i] === 0 ? NaN : odd ? -delay[i] / 2 : (delay[i] - 1) / 2;
    }
    return { group: lane.group, title: lane.title, kind: lane.kind, n: lane.n, rows: splitRows(start, dur, name, part, row, delay, launcher) };
  });
  return head;
};

// Events of one row do not overlap, so starts and ends are both sorted and a range is found by halving.
const splitRows = (start, dur, name, part, row, delay, launcher) => {
  const counts = [];
  for (const r of row) counts[r] = (counts[r] ?? 0) + 1;
  const rows = counts.map((n) => ({
    n: 0, start: new Float64Array(n), end: new Float64Array(n), sum: new Float64Array(n + 1),
    name: new Uint32Array(n), part: new Uint16Array(n), delay: new Float64Array(n), launcher: new Int32Array(n),
  }));
  for (let i = 0; i < row.length; i++) {
    const to = rows[row[i]], k = to.n++;
    to.start[k] = start[i];
    to.end[k] = start[i] + dur[i];
    to.sum[k + 1] = to.sum[k] + dur[i];
    to.name[k] = name[i];
    to.part[k] = part[i];
    to.delay[k] = delay[i];
    to.launcher[k] = launcher[i] - 1;
  }
  return rows;
};

// The first position from `low` whose value is above `limit` (or at it, with `orAt`).
const firstAbove = (values, limit, low, orAt) => {
  let high = values.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (values[middle] > limit || (orAt && values[middle] === limit)) high = middle;
    else low = middle + 1;
  }
  return low;
};

// Only the events of a row that `wanted` keeps, as a row of its own.
const filterRow = (row, wanted) => {
  const kept = [];
  for (let i = 0; i < row.start.length; i++) if (wanted(row, i)) kept.push(i);
  const made = { from: kept, start: Float64Array.from(kept, (i) => row.start[i]), end: Float64Array.from(kept, (i) => row.end[i]), sum: new Float64Array(kept.length + 1), part: Uint16Array.from(kept, (i) => row.part[i]), name: Uint32Array.from(kept, (i) => row.name[i]) };
  kept.forEach((_, k) => { made.sum[k + 1] = made.sum[k] + made.end[k] - made.start[k]; });
  return made;
};

// Hands draw(first, next, x0, x1, part, covered) every visible piece of a row: an event of a pixel or more by itself,
// smaller ones together per pixel, with the part of the longest of them and the share of the pixel that they cover.
const SAMPLES = 24;
const pieces = (row, t0, t1, width, draw) => {
  const perPixel = (t1 - t0) / width, n = row.start.length;
  for (let i = firstAbove(row.end, t0, 0, false); i < n && row.start[i] < t1;) {
    const x = (row.start[i] - t0) / perPixel;
    if (row.end[i] - row.start[i] >= perPixel) {
      draw(i, i + 1, Math.max(x, 0), Math.min((row.end[i] - t0) / perPixel, width), row.part[i], 1);
      i++;
      continue;
    }
    const pixel = Math.max(Math.floor(x), 0);
    let next = Math.max(firstAbove(row.start, t0 + (pixel + 1) * perPixel, i, true), i + 1);
    if (next > i + 1 && row.end[next - 1] - row.start[next - 1] >= perPixel) next--;
    let longest = i;
    const stride = Math.max(1, Math.floor((next - i) / SAMPLES));
    for (let k = i; k < next; k += stride) {
      if (row.end[k] - row.start[k] > row.end[longest] - row.start[longest]) longest = k;
    }
    draw(i, next, pixel, pixel + 1, row.part[longest], Math.min(1, (row.sum[next] - row.sum[i]) / perPixel));
    i = next;
  }
};

// Time that a row's events take between two times.
const covered = (row, t0, t1) => {
  const i = firstAbove(row.end, t0, 0, false), j = firstAbove(row.start, t1, i, true);
  if (j <= i) return 0;
  return row.sum[j] - row.sum[i] - Math.max(0, t0 - row.start[i]) - Math.max(0, row.end[j - 1] - t1);
};

// 4.12 ms of nanoseconds.
const UNITS = [[1e9, "s"], [1e6, "ms"], [1e3, "µs"], [1, "ns"]];
const unitOf = (ns) => UNITS.find(([factor]) => Math.abs(ns) >= factor * 0.9995) ?? UNITS[3];
const inWords = (ns, digits = 4) => {
  if (!Number.isFinite(ns)) return "–";
  const [factor, unit] = unitOf(ns);
  return `${Number((ns / factor).toPrecision(digits))} ${unit}`;
};

// A kernel's name for a box: no return type, template arguments, parameters and namespaces; of a kernel that many
// functors share (elementwise_kernel, Kernel<...>), what it does comes first.
const shortName = (name) => {
  const told = name.replace(/^autograd::engine::evaluate_function: /, "").replace(/^void /, "").replace(/\(anonymous namespace\)::/g, "");
  let bare = told;
  for (let last = ""; last !== bare;) [last, bare] = [bare, bare.replace(/<[^<>]*>/g, "")];
  if (!/[<(]/.test(told) || !/^[\w:~]+(\(|$)/.test(bare)) return told;
  const kernel = bare.replace(/\(.*/, "").replace(/^.*::/, "");
  const inner = /^(kernel2?|\w*elementwise_kernel\w*|reduce_kernel|\w*apply_kernel|DeviceKernel)$/i.test(kernel) &&
    told.slice(told.indexOf(kernel) + kernel.length).match(/\b(cutlass_\w+|\w*[Ff]unctor\w*|\w+_kernel_(?:cuda|impl)\w*|\w+Ops?)\b/);
  return inner ? `${inner[1]} ${kernel}` : kernel;
};
