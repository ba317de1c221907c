// Boxes, symbols and captions over a picture; colour is never the only sign.

export const COLOURS = {
  proper: "#00be8c", improper: "#f0b400", none: "#ff5f14", unsure: "#ebebeb", "too small": "#ebebeb",
};

const DASHES = { unsure: [6, 4], "too small": [2, 3] };

// Lines in a square of side 100.
export const SYMBOLS = {
  starting: "M30 20 L78 50 L30 80 Z",
  nobody: "M20 50 H80",
  proper: "M14 55 L40 82 L86 20",
  improper: "M50 12 V60 M50 86 V88",
  none: "M18 18 L82 82 M82 18 L18 82",
  unsure: "M28 32 Q30 12 52 12 Q76 14 74 34 Q72 46 50 54 V64 M50 86 V88",
  "too small": "M50 88 V16 M22 44 L50 14 L78 44",
};

/** Draw the faces, {box, answer, text}, onto a canvas that shows the picture they are of. */
export function drawFaces(canvas, faces, mirrored) {
  const context = canvas.getContext("2d");
  const unit = Math.max(canvas.width, canvas.height) / 320;
  const font = Math.max(12, 8 * unit);
  for (const { box, answer, text } of faces) {
    let [left, top, right, bottom] = box;
    if (mirrored) [left, right] = [canvas.width - right, canvas.width - left];
    const dashes = (DASHES[answer] ?? []).map((length) => length * unit);
    for (const [colour, width, dash] of [["#000", 3 * unit, []], [COLOURS[answer], 1.5 * unit, dashes]]) {
      context.setLineDash(dash);
      context.strokeStyle = colour;
      context.lineWidth = width;
      context.strokeRect(left, top, right - left, bottom - top);
    }
    context.setLineDash([]);
    context.font = `600 ${font}px system-ui, sans-serif`;
    const width = context.measureText(text).width + 2.2 * font;
    const x = Math.max(0, Math.min(left, canvas.width - width));
    const y = top >= 1.6 * font ? top - 1.6 * font : Math.min(bottom, canvas.height - 1.6 * font);
    context.fillStyle = "#000";
    context.fillRect(x, y, width, 1.6 * font);
    context.save();
    context.translate(x + 0.35 * font, y + 0.35 * font);
    context.scale(font / 110, font / 110);
    context.strokeStyle = COLOURS[answer];
    context.lineWidth = 16;
    context.stroke(new Path2D(SYMBOLS[answer]));
    context.restore();
    context.fillStyle = "#fff";
    context.textBaseline = "middle";
    context.fillText(text, x + 1.6 * font, y + 0.85 * font);
  }
}
