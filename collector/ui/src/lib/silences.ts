//! Silences: matchers as one writes them, and hours of the week that come again.

import type { SilenceMatcher, TimeInterval } from './api/types';

/** From Monday, as a week is read. */
export const DAYS = ['monday', 'tuesday', 'wednesday', 'thursday', 'friday', 'saturday', 'sunday'] as const;
const SHORT = ['Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat', 'Sun'];
export const shortDay = (day: number): string => SHORT[day] ?? '';

const MATCHER = /^\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*(=~|!~|!=|=)\s*("(?:\\.|[^"\\])*"|[^",]*?)\s*(?:,|$)/;

/** `instance="db-1", severity=~"info|warning"`; undefined where it cannot be read. */
export function parseMatchers(text: string): SilenceMatcher[] | undefined {
  const out: SilenceMatcher[] = [];
  let left = text.trim().replace(/^\{([\s\S]*)\}$/, '$1').trim();
  while (left !== '') {
    const found = MATCHER.exec(left);
    const [whole, name, operator, written] = found ?? [];
    if (whole === undefined || name === undefined || operator === undefined || written === undefined) return undefined;
    const value = written.startsWith('"') ? written.slice(1, -1).replace(/\\(.)/g, (_, one: string) => (one === 'n' ? '\n' : one)) : written;
    out.push({ name, value, isRegex: operator.endsWith('~'), isEqual: operator.startsWith('=') });
    left = left.slice(whole.length).trim();
  }
  return out;
}

export const operatorOf = (matcher: SilenceMatcher): string => `${matcher.isEqual ? '=' : '!'}${matcher.isRegex ? '~' : matcher.isEqual ? '' : '='}`;

/** Matchers as one writes them. */
export const matchersText = (matchers: readonly SilenceMatcher[]): string =>
  matchers.map((matcher) => `${matcher.name}${operatorOf(matcher)}"${matcher.value.replace(/["\\]/g, '\\$&').replace(/\n/g, '\\n')}"`).join(', ');

/** The hours from `from` to `to` on some days of each week. What goes over midnight ends on the day after. */
export function weekly(days: readonly number[], from: string, to: string, location: string): TimeInterval[] {
  const on = (which: readonly number[], start: string, end: string): TimeInterval => ({
    weekdays: [...which].sort((a, b) => a - b).map((day) => DAYS[day] ?? ''),
    times: [{ start_time: start, end_time: end }],
    location,
  });
  if (to > from) return [on(days, from, to)];
  const evening = on(days, from, '24:00');
  return to === '00:00' ? [evening] : [evening, on(days.map((day) => (day + 1) % DAYS.length), '00:00', to)];
}

/** When a silence holds that comes again, in words. */
export function recurrenceText(intervals: readonly TimeInterval[]): string {
  return intervals
    .map((one) => {
      const days = (one.weekdays ?? []).map((text) => text.split(':').map((day) => shortDay(DAYS.findIndex((name) => name === day)) || day).join('–'));
      const times = (one.times ?? []).map((time) => `${time.start_time}–${time.end_time}`);
      const rest = [...(one.days_of_month ?? []).map((day) => `day ${day}`), ...(one.months ?? []), ...(one.years ?? [])];
      return [days.join(', ') || 'every day', times.join(', '), rest.join(', '), one.location ?? 'UTC'].filter(Boolean).join(' ');
    })
    .join(' and ');
}
