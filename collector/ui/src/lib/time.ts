//! Times and ranges: how they are read from an address, and how they are said.

export const SECOND = 1000;
export const MINUTE = 60 * SECOND;
export const HOUR = 60 * MINUTE;
export const DAY = 24 * HOUR;

/** What a page looks at: the last so many milliseconds, moving on, or a span that stays. */
export type Range = { kind: 'last'; ms: number } | { kind: 'fixed'; from: number; to: number };

export interface Span {
  from: number;
  to: number;
}

export const RANGES: readonly number[] = [5 * MINUTE, 15 * MINUTE, HOUR, 6 * HOUR, DAY, 7 * DAY, 30 * DAY];
const RANGE_MIN = 10 * SECOND;
const RANGE_MAX = 5 * 366 * DAY;

const UNITS: readonly (readonly [string, number])[] = [
  ['d', DAY],
  ['h', HOUR],
  ['m', MINUTE],
  ['s', SECOND],
];

/** `1h30m` in milliseconds. */
export function parseDuration(text: string): number | undefined {
  if (!/^(\d+[dhms])+$/.test(text)) return undefined;
  let sum = 0;
  for (const [, count, unit] of text.matchAll(/(\d+)([dhms])/g)) {
    sum += Number(count) * (UNITS.find(([name]) => name === unit)?.[1] ?? 0);
  }
  return Number.isSafeInteger(sum) ? sum : undefined;
}

/** A length of time in at most two units: `1 h 5 m`. */
export function duration(ms: number, separator = ' '): string {
  if (!Number.isFinite(ms)) return '–';
  if (ms < SECOND) return `${Math.max(0, Math.round(ms))}${separator}ms`;
  let left = Math.round(ms / SECOND) * SECOND;
  const parts: string[] = [];
  for (const [name, size] of UNITS) {
    const count = Math.floor(left / size);
    left -= count * size;
    if (count > 0) parts.push(`${count}${separator}${name}`);
    else if (parts.length > 0) break;
    if (parts.length === 2) break;
  }
  return parts.join(separator);
}

/** As an address writes it: `1h30m`. */
export function shortDuration(ms: number): string {
  let left = ms;
  let out = '';
  for (const [name, size] of UNITS) {
    const count = Math.floor(left / size);
    left -= count * size;
    if (count > 0) out += `${count}${name}`;
  }
  return out || '0s';
}

export function ago(ms: number, now: number): string {
  const past = now - ms;
  if (past < 0) return `in ${duration(-past)}`;
  return past < 2 * SECOND ? 'now' : `${duration(past)} ago`;
}

const two = (n: number) => String(n).padStart(2, '0');

/** The time of day in the viewer's zone, with the day where it is not today's. */
export function clock(ms: number, now = Date.now(), seconds = false): string {
  const at = new Date(ms);
  const time = `${two(at.getHours())}:${two(at.getMinutes())}${seconds ? `:${two(at.getSeconds())}` : ''}`;
  return at.toDateString() === new Date(now).toDateString() ? time : `${day(ms)} ${time}`;
}

export function day(ms: number): string {
  const at = new Date(ms);
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
}

export function utc(ms: number): string {
  const at = new Date(ms);
  return Number.isNaN(at.getTime()) ? '' : `${at.toISOString().slice(0, 19).replace('T', ' ')} UTC`;
}

export function parseRange(params: URLSearchParams, otherwise: number): Range {
  const [from, to] = [Number(params.get('from')), Number(params.get('to'))];
  if (params.has('from') && Number.isFinite(from) && Number.isFinite(to) && to - from >= RANGE_MIN && to - from <= RANGE_MAX && from >= 0) {
    return { kind: 'fixed', from: Math.round(from), to: Math.round(to) };
  }
  const ms = parseDuration(params.get('range') ?? '');
  return { kind: 'last', ms: ms !== undefined && ms >= RANGE_MIN && ms <= RANGE_MAX ? ms : otherwise };
}

export function rangeParams(range: Range): Record<string, string | undefined> {
  return range.kind === 'last'
    ? { range: shortDuration(range.ms), from: undefined, to: undefined }
    : { range: undefined, from: String(range.from), to: String(range.to) };
}

export function span(range: Range, now: number): Span {
  return range.kind === 'last' ? { from: now - range.ms, to: now } : range;
}

export function rangeText(range: Range): string {
  return range.kind === 'last' ? `last ${duration(range.ms)}` : `${clock(range.from)} – ${clock(range.to)}`;
}

/** The span moved by a share of itself, and made longer or shorter around its middle. */
export function moved(at: Span, by: number, factor = 1): Range {
  const half = ((at.to - at.from) * factor) / 2;
  const middle = (at.from + at.to) / 2 + (at.to - at.from) * by;
  const grown = Math.min(Math.max(half, RANGE_MIN / 2), RANGE_MAX / 2);
  return { kind: 'fixed', from: Math.round(middle - grown), to: Math.round(middle + grown) };
}

const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400];

/** A step in seconds that gives about so many points; from a minute on, one that rollups can answer. */
export function stepFor(at: Span, points: number): number {
  const wanted = (at.to - at.from) / SECOND / points;
  return STEPS.find((step) => step >= wanted) ?? Math.ceil(wanted / 86400) * 86400;
}

/** The span on multiples of the step, so that every reload asks for the same times. */
export function aligned(at: Span, stepSecs: number): Span {
  const step = stepSecs * SECOND;
  return { from: Math.floor(at.from / step) * step, to: Math.floor(at.to / step) * step };
}
