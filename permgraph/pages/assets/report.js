// The report: tables sort by their columns, and the pictures of correlations say the value under the pointer.
for (const table of document.querySelectorAll("table.sortable")) sortable(table);

for (const image of document.querySelectorAll(".matrix")) {
  let context = null;
  const name = image.title;
  image.addEventListener("pointermove", (event) => {
    if (!context) {
      const canvas = document.createElement("canvas");
      [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
      context = canvas.getContext("2d", { willReadFrequently: true });
      context.drawImage(image, 0, 0);
    }
    const box = image.getBoundingClientRect();
    const place = (at, from, size, count) => Math.min(count - 1, Math.max(0, Math.floor(((at - from) / size) * count)));
    const column = place(event.clientX, box.left, box.width, image.naturalWidth);
    const row = place(event.clientY, box.top, box.height, image.naturalHeight);
    const level = context.getImageData(column, row, 1, 1).data[3] / 255;
    image.title = `${name}: row ${row}, column ${column}, ${level ? level.toFixed(2) : "0 or less"}`;
  });
}
