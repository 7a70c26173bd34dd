// Tools of a radiograph for those who use no keys: zoom, pixels, full screen, window and level.
import { button, clamp, drawn, make, menu } from "./common.js";
import { PRESETS } from "./radiograph.js";

function corners() {
  return drawn("svg", { viewBox: "0 0 16 16", width: "1em", height: "1em", "aria-hidden": "true" }, drawn("path", {
    d: "M2 6V2h4M10 2h4v4M14 10v4h-4M6 14H2v-4", fill: "none", stroke: "currentColor", "stroke-width": 2 }));
}

// Elements that follow the view of the radiograph.
export function imageTools(radiograph) {
  const { view } = radiograph;
  const preset = menu("Window", [{ value: "", label: "full" }, ...Object.keys(PRESETS), { value: "own", label: "own" }], "",
    (name) => { if (name !== "own") radiograph.preset(name); });
  const percent = (label, name, limits) => {
    const input = make("input", { type: "number", class: "wbf-number", step: 1, min: 100 * limits[0], max: 100 * limits[1], on: { change: () => {
      if (input.value === "") { radiograph.redrawn(); return; }
      const shown = { ...radiograph.window(), [name]: clamp(Number(input.value) / 100, ...limits) };
      radiograph.brighten(shown.centre, shown.width);
    } } });
    return { name, input, field: make("label", { class: "wb-field" }, make("span", { class: "wb-label" }, label), input) };
  };
  const numbers = [percent("Level, %", "centre", [-0.5, 1.5]), percent("Width, %", "width", [0.02, 3])];
  radiograph.redrawn = () => {
    const shown = radiograph.window();
    const full = shown.centre === 0.5 && shown.width === 1;
    preset.select.value = view.preset || (full ? "" : "own");
    for (const { name, input } of numbers) input.value = String(Math.round(100 * shown[name]));
  };
  radiograph.redrawn();
  return [
    button("\u2212", () => radiograph.zoomBy(0.8), { "aria-label": "Zoom out", title: "Zoom out (\u2212)" }),
    button("+", () => radiograph.zoomBy(1.25), { "aria-label": "Zoom in", title: "Zoom in (+)" }),
    button("1:1", () => radiograph.pixels(), { "aria-label": "Pixels 1:1", title: "One pixel of the image on one of the screen, and back (p)" }),
    button("\u21ba", () => radiograph.reset(), { "aria-label": "Reset the image", title: "Reset zoom, window, flip, invert and view (0)" }),
    document.fullscreenEnabled && button(corners(), () => radiograph.fill(), { "aria-label": "Full screen", title: "Full screen, and back (l)" }),
    make("div", { class: "wbf-window", role: "group", "aria-label": "Window and level" }, preset.field, numbers.map(({ field }) => field)),
  ];
}
