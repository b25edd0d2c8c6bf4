// Curves: uPlot in the page's own colours, drawn again when the data or the width change.
import { html, useEffect, useRef } from "./vendor/htm-preact.js";
import uPlot from "./vendor/uplot.js";

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

/** A horizontal band and its middle line, behind the curves. */
function band({ mean, low, high }) {
  return (plot) => {
    const { ctx, bbox } = plot;
    const at = (value) => Math.round(plot.valToPos(value, "y", true));
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    ctx.clip();
    ctx.fillStyle = colour("track");
    ctx.fillRect(bbox.left, at(high), bbox.width, at(low) - at(high));
    ctx.strokeStyle = colour("gray");
    ctx.beginPath();
    ctx.moveTo(bbox.left, at(mean));
    ctx.lineTo(bbox.left + bbox.width, at(mean));
    ctx.stroke();
    ctx.restore();
  };
}

function optionsOf(width, { series, baseline, height = 200, xLabel = "" }) {
  const axis = { stroke: colour("soft"), grid: { stroke: colour("line"), width: 1 }, ticks: { stroke: colour("line") } };
  return {
    width, height,
    cursor: { y: false },
    legend: { live: true },
    scales: { x: { time: false }, y: { range: (_, low, high) => rangeOf(low, high, baseline) } },
    axes: [{ ...axis, label: xLabel, labelSize: 18, size: 34 }, { ...axis, size: 46 }],
    series: [{ label: xLabel || "x" }, ...series.map((one) => ({
      label: one.label, stroke: colour(one.colour), width: 2, spanGaps: true,
      points: { show: one.dots ?? false, size: 7, fill: colour(one.colour) }, paths: one.line === false ? () => null : undefined,
      value: (_, value) => value === null || value === undefined ? "–" : Number(value.toPrecision(4)),
    }))],
    hooks: baseline ? { drawClear: [band(baseline)] } : {},
  };
}

function rangeOf(low, high, baseline) {
  const lowest = Math.min(low ?? 0, baseline ? baseline.low : Infinity);
  const highest = Math.max(high ?? 1, baseline ? baseline.high : -Infinity);
  const room = (highest - lowest || Math.abs(highest) || 1) * 0.08;
  return [lowest - room, highest + room];
}

/** `xs`, and `series`: [{label, values, colour, dots, line}]; `baseline`: {mean, low, high}. */
export function Chart({ title, xs, series, baseline, height, xLabel }) {
  const place = useRef(null);
  useEffect(() => {
    const draw = () => {
      place.current.replaceChildren();
      const options = optionsOf(Math.max(240, place.current.clientWidth), { series, baseline, height, xLabel });
      new uPlot(options, [xs, ...series.map((one) => one.values)], place.current);
    };
    draw();
    let width = place.current.clientWidth;
    const watching = new ResizeObserver(([entry]) => {
      if (Math.abs(entry.contentRect.width - width) > 2) { width = entry.contentRect.width; draw(); }
    });
    watching.observe(place.current);
    return () => watching.disconnect();
  }, [JSON.stringify([xs, series, baseline])]);
  return html`<figure class="chart"><figcaption>${title}</figcaption><div ref=${place}></div></figure>`;
}
