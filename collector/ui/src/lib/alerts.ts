//! What is said of an alert, and what it measures.

import type { Alert, Labels } from './api/types';

export const titleOf = (alert: Alert): string => alert.annotations['summary'] || alert.annotations['title'] || alert.labels['alertname'] || 'alert';
export const severityOf = (alert: Alert): string => alert.labels['severity'] ?? 'none';

const SEVERITIES = ['critical', 'page', 'error', 'warning', 'info'];
const STATES = ['firing', 'no_data', 'pending', 'resolved'];

/** What needs a person first: firing, not silenced, not acknowledged, critical, the newest. */
export function urgency(a: Alert, b: Alert): number {
  const rank = (alert: Alert): number[] => [
    STATES.indexOf(alert.state),
    Number((alert.silenced_by ?? []).length > 0 || (alert.inhibited_by ?? []).length > 0),
    Number(Boolean(alert.acknowledged)),
    (SEVERITIES.indexOf(severityOf(alert)) + SEVERITIES.length + 1) % (SEVERITIES.length + 1),
    -alert.active_since_ms,
  ];
  const [left, right] = [rank(a), rank(b)];
  for (let at = 0; at < left.length; at += 1) {
    const by = (left[at] ?? 0) - (right[at] ?? 0);
    if (by !== 0) return by;
  }
  return 0;
}

export interface Measured {
  /** What is measured: the expression without its comparison. */
  query: string;
  threshold: number | undefined;
  comparison: string;
}

/** Splits `left > 5` at its last comparison with a number, if it has one. */
export function measured(expression: string): Measured {
  const split = /^([\s\S]+?)\s*(>=|<=|==|!=|>|<)\s*(-?[0-9][0-9_.]*(?:e[+-]?\d+)?)\s*$/i.exec(expression);
  const [, left, comparison, right] = split ?? [];
  if (left === undefined || right === undefined || comparison === undefined || !isBalanced(left)) {
    return { query: expression, threshold: undefined, comparison: '' };
  }
  return { query: left, threshold: Number(right), comparison };
}

/** Whether the left side ends outside of all brackets and strings, and joins nothing weaker than a comparison. */
function isBalanced(text: string): boolean {
  const bare = text.replace(/"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|`[^`]*`/g, '""');
  let depth = 0;
  for (const character of bare) {
    if ('([{'.includes(character)) depth += 1;
    if (')]}'.includes(character)) depth -= 1;
    if (depth < 0) return false;
  }
  const outside = bare.replace(/\{[^}]*\}/g, '');
  return depth === 0 && !/\b(and|or|unless)\b(?![^(]*\))/.test(outside);
}

/** Whether a series is the one that an alert is about: no label of both differs. */
export function isOf(labels: Labels, series: Labels): boolean {
  return Object.entries(series).every(([name, value]) => name === '__name__' || (labels[name] ?? value) === value);
}

/** Only addresses that a link may have. */
export function safeLink(text: string | undefined): string | undefined {
  return text !== undefined && /^https?:\/\//i.test(text) ? text : undefined;
}
