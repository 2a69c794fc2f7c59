//! What a chart draws: times in seconds and a column of values for each series, as uPlot wants them.

import type { MatrixSeries } from '../api/types';
import { SECOND, type Span } from '../time';

export interface Line {
  label: string;
  values: (number | null)[];
}

export interface Frame {
  times: number[];
  lines: Line[];
}

export const EMPTY: Frame = { times: [], lines: [] };

/** Series on the common times of their query; where one has no point there is a gap. */
export function frameOf(series: readonly MatrixSeries[], label: (series: MatrixSeries) => string, span: Span, stepSecs: number): Frame {
  const start = span.from / SECOND;
  const count = Math.max(0, Math.floor((span.to / SECOND - start) / stepSecs) + 1);
  const times = Array.from({ length: count }, (_, at) => start + at * stepSecs);
  const lines = series.map((one) => {
    const values = new Array<number | null>(count).fill(null);
    for (const [time, text] of one.values) {
      const at = Math.round((time - start) / stepSecs);
      if (at >= 0 && at < count) values[at] = number(text);
    }
    return { label: label(one), values };
  });
  return { times, lines };
}

export function number(text: string): number | null {
  const value = text === '+Inf' ? Infinity : text === '-Inf' ? -Infinity : Number(text);
  return Number.isFinite(value) ? value : null;
}

/** The frame with one more moment, and without what is older than `from`. A line that is new begins now, if it is not nothing. */
export function appended(frame: Frame, timeSecs: number, values: ReadonlyMap<string, number | null>, fromSecs: number): Frame {
  const last = frame.times.at(-1) ?? -Infinity;
  if (timeSecs <= last) return frame;
  let drop = 0;
  while (drop < frame.times.length && (frame.times[drop] ?? 0) < fromSecs) drop += 1;
  const times = frame.times.slice(drop);
  times.push(timeSecs);
  const known = new Set(frame.lines.map((line) => line.label));
  const lines = frame.lines.map((line) => {
    const kept = line.values.slice(drop);
    kept.push(values.get(line.label) ?? null);
    return { label: line.label, values: kept };
  });
  for (const [label, value] of values) {
    if (!known.has(label) && value) lines.push({ label, values: [...new Array<null>(times.length - 1).fill(null), value] });
  }
  return { times, lines };
}

/** Lines on top of each other, the first at the bottom. */
export function stacked(lines: readonly Line[]): Line[] {
  const sums: number[] = [];
  return lines.map((line) => ({
    label: line.label,
    values: line.values.map((value, at) => {
      if (value === null) return null;
      const sum = (sums[at] ?? 0) + value;
      sums[at] = sum;
      return sum;
    }),
  }));
}
