//! uPlot with our looks: thin lines, a faint area, quantities from zero, a dashed threshold with its name.

import uPlot from 'uplot';
import type { Theme } from '../theme.svelte';
import { format, type Unit } from '../units';
import { colour, ink } from './palette';

export interface PlotOptions {
  width: number;
  height: number;
  unit: Unit;
  labels: readonly string[];
  theme: Theme;
  isStacked: boolean;
  /** The top of the scale at least. */
  atLeast?: number | undefined;
  threshold?: { value: number; name: string } | undefined;
  /** Charts of one name share their cursor. */
  sync?: string | undefined;
  from: number;
  to: number;
  pinned?: number | undefined;
  onZoom(fromSecs: number, toSecs: number): void;
  onCursor(index: number | null, timeSecs: number | null): void;
  onPick(timeSecs: number): void;
}

/** Steps of an axis of bytes: powers of two, so that the numbers on it are round. */
const BINARY_STEPS = Array.from({ length: 60 }, (_, power) => 2 ** power);
const FONT = '11px system-ui, sans-serif';
/** A drag shorter than this, in pixels, is a click. */
const CLICK_PX = 4;

export function plot(options: PlotOptions, data: uPlot.AlignedData, into: HTMLElement): uPlot {
  const look = ink(options.theme);
  const axis: uPlot.Axis = {
    stroke: look.text,
    font: FONT,
    grid: { stroke: look.grid, width: 1 },
    ticks: { show: false },
  };
  const lines: uPlot.Series[] = options.labels.map((label, nth) => ({
    label,
    stroke: colour(nth, options.theme),
    width: 1.5,
    fill: `${colour(nth, options.theme)}${options.isStacked ? '40' : options.labels.length === 1 ? '22' : '00'}`,
    points: { show: false },
    spanGaps: false,
  }));
  let isOwn = false;
  const chart = new uPlot(
    {
      width: options.width,
      height: options.height,
      legend: { show: false },
      padding: [8, 24, 0, 0],
      cursor: {
        y: false,
        points: { size: 6 },
        drag: { x: true, y: false, setScale: false, dist: CLICK_PX },
        ...(options.sync === undefined ? {} : { sync: { key: options.sync } }),
      },
      scales: {
        x: { time: true, range: () => [options.from, options.to] },
        y: { range: (_, low, high) => bounds(low, high, options) },
      },
      axes: [
        { ...axis, size: 26, space: 70, values: (_, splits) => splits.map((at) => tick(at, options)) },
        { ...axis, size: 62, space: 26, ...(options.unit.startsWith('bytes') ? { incrs: BINARY_STEPS } : {}), values: (_, splits) => splits.map((value) => format(value, options.unit)) },
      ],
      series: [{}, ...lines],
      bands: options.isStacked ? lines.slice(1).map((_, nth) => ({ series: [nth + 2, nth + 1] as [number, number] })) : [],
      hooks: {
        setCursor: [
          (chart) => {
            const { idx, left } = chart.cursor;
            const isInside = left !== undefined && left >= 0;
            options.onCursor(isInside ? (idx ?? null) : null, isInside ? chart.posToVal(left, 'x') : null);
          },
        ],
        setSelect: [
          (chart) => {
            const { left, width } = chart.select;
            // Charts that share a cursor share the selection, too: only the one that was dragged over speaks.
            if (isOwn && width > CLICK_PX) options.onZoom(chart.posToVal(left, 'x'), chart.posToVal(left + width, 'x'));
            chart.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
            isOwn = false;
          },
        ],
        draw: [(chart) => drawMarks(chart, options)],
      },
    },
    data,
    into,
  );
  let pressed = 0;
  chart.over.addEventListener('mousedown', (event) => {
    pressed = event.clientX;
    isOwn = true;
  });
  chart.over.addEventListener('click', (event) => {
    const left = event.clientX - chart.over.getBoundingClientRect().left;
    if (Math.abs(event.clientX - pressed) <= CLICK_PX) options.onPick(chart.posToVal(left, 'x'));
  });
  return chart;
}

function bounds(low: number | null, high: number | null, options: PlotOptions): [number, number] {
  const top = Math.max(high ?? 0, options.atLeast ?? 0, options.threshold?.value ?? 0);
  const bottom = Math.min(low ?? 0, 0);
  return [bottom * 1.05, top > bottom ? top * 1.05 : bottom + 1];
}

function tick(atSecs: number, options: PlotOptions): string {
  const at = new Date(atSecs * 1000);
  const two = (n: number) => String(n).padStart(2, '0');
  const long = options.to - options.from > 2 * 86_400;
  const time = `${two(at.getHours())}:${two(at.getMinutes())}`;
  if (long) return at.getHours() === 0 && at.getMinutes() === 0 ? `${two(at.getMonth() + 1)}-${two(at.getDate())}` : time;
  return options.to - options.from <= 900 ? `${time}:${two(at.getSeconds())}` : time;
}

function drawMarks(chart: uPlot, options: PlotOptions): void {
  const { ctx, bbox } = chart;
  const look = ink(options.theme);
  const scale = devicePixelRatio;
  ctx.save();
  if (options.threshold) {
    const y = chart.valToPos(options.threshold.value, 'y', true);
    ctx.strokeStyle = look.threshold;
    ctx.fillStyle = look.threshold;
    ctx.lineWidth = scale;
    ctx.setLineDash([6 * scale, 4 * scale]);
    ctx.beginPath();
    ctx.moveTo(bbox.left, y);
    ctx.lineTo(bbox.left + bbox.width, y);
    ctx.stroke();
    ctx.font = `${11 * scale}px system-ui, sans-serif`;
    ctx.textAlign = 'right';
    ctx.fillText(options.threshold.name, bbox.left + bbox.width - 4 * scale, y - 4 * scale);
  }
  if (options.pinned !== undefined && options.pinned >= options.from && options.pinned <= options.to) {
    const x = chart.valToPos(options.pinned, 'x', true);
    ctx.strokeStyle = look.cursor;
    ctx.lineWidth = scale;
    ctx.setLineDash([]);
    ctx.beginPath();
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.stroke();
  }
  ctx.restore();
}
