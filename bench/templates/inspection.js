const timelineBox = document.querySelector("#timeline");
const legend = (view) => {
  const used = new Set(view.data.lanes.flatMap((lane) => lane.rows.flatMap((row) => [...new Set(row.part)])));
  const order = [...used].sort((a, b) => view.labels[a].localeCompare(view.labels[b]));
  for (const part of order) {
    const item = document.createElement("li"), button = document.createElement("button"), swatch = document.createElement("i");
    swatch.className = `swatch c${view.colorIds[part]}${view.data.parts[part][1] === "backward" ? " faded" : ""}`;
    button.type = "button";
    button.title = "Find its events";
    button.append(swatch, view.labels[part]);
    button.addEventListener("click", () => view.find(view.query === view.labels[part].toLowerCase() ? "" : view.labels[part]));
    item.append(button);
    view.box.querySelector("#legend").append(item);
  }
};
if (timelineBox) {
  unpackTimeline(document.querySelector("#payload").textContent).then((data) => {
    timelineBox.view = new Timeline(timelineBox, data);
    legend(timelineBox.view);
    timelineBox.dataset.ready = "1";
  }).catch((error) => {
    const status = timelineBox.querySelector("#status");
    status.className = "status bad";
    status.textContent = `The timeline could not be drawn (${error.message}). It needs a browser of 2023 or later.`;
  });
}
const kernelTable = document.querySelector("#kernel-table");
if (kernelTable) {
  const rows = [...kernelTable.tBodies[0].rows], filter = document.querySelector("#filter"), told = document.querySelector("#filtered");
  filter.addEventListener("input", () => {
    const wanted = filter.value.trim().toLowerCase();
    let shown = 0;
    for (const row of rows) {
      row.hidden = !`${row.querySelector("button.name").title}\n${row.cells[1].textContent}`.toLowerCase().includes(wanted);
      shown += !row.hidden;
    }
    told.textContent = `${shown} of ${rows.length} names`;
  });
  kernelTable.tBodies[0].addEventListener("click", (e) => {
    const button = e.target.closest("button.name");
    if (!button || !timelineBox?.view) return;
    timelineBox.view.find(button.title);
    timelineBox.view.nextMatch(1);
    timelineBox.scrollIntoView({ block: "start", behavior: "smooth" });
  });
}
