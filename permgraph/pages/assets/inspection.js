// Puts the page together once its data is unpacked.
function fromAddress() {
  const wanted = decodeURIComponent(location.hash.slice(1));
  const match = wanted.match(/^(.+):(\d+)$/);
  const t = match ? D.names.indexOf(match[1]) : -1;
  if (t < 0 || t >= D.tensors.length || +match[2] >= D.tensors[t].shape.length) {
    if (wanted) document.getElementById("side").prepend(el("p.pin-card", { role: "alert" }, `This model has no axis ${wanted}.`));
    return;
  }
  select([t, +match[2]]);
  drawn.get(axisKey(t, +match[2]))?.scrollIntoView({ block: "center" });
}

function onKey(event) {
  if (event.key === "Escape" && chosen) unselect();
  if (event.key === "/" && !/^(INPUT|TEXTAREA)$/.test(document.activeElement.tagName)) {
    event.preventDefault();
    document.getElementById("filter").focus();
  }
}

load().then(
  () => {
    colourGroups();
    drawHead();
    document.getElementById("main").append(drawBlocks(), drawGroups(), drawPinned());
    drawSide();
    fromAddress();
    addEventListener("keydown", onKey);
    addEventListener("hashchange", fromAddress);
    document.body.dataset.ready = "true";
  },
  (error) =>
    document.getElementById("main").append(`This page could not be unpacked: ${error}. Open it in a current browser.`),
);
