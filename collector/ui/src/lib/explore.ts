//! Questions of the Explore page: one answer for the table, one for the graph, and how they came about.

import { form, type Asked } from './api/client';
import type { Labels, MatrixSeries, Point, QueryData, QueryStats } from './api/types';
import { frameOf, type Frame } from './charts/frame';
import { SECOND, type Span } from './time';

export interface Outcome {
  kind: 'table' | 'graph';
  rows: { labels: Labels; values: Point[] }[];
  frame: Frame;
  stats: QueryStats | undefined;
  remarks: string[];
  took: number;
  total: number;
}

/** More series than this are neither drawn nor listed. */
export const GRAPH_MAX = 60;
export const TABLE_MAX = 1000;

export function nameOf(metric: Labels): string {
  const { __name__: name = '', ...rest } = metric;
  const inside = Object.entries(rest).map(([key, value]) => `${key}=${JSON.stringify(value)}`);
  return inside.length > 0 || name === '' ? `${name}{${inside.join(', ')}}` : name;
}

function rowsOf(data: QueryData): Outcome['rows'] {
  switch (data.resultType) {
    case 'vector':
      return data.result.map(({ metric, value }) => ({ labels: metric, values: [value] }));
    case 'matrix':
      return data.result.map(({ metric, values }) => ({ labels: metric, values }));
    default:
      return [{ labels: {}, values: [data.result] }];
  }
}

export async function ask(query: string, kind: Outcome['kind'], at: Span, stepSecs: number, signal: AbortSignal): Promise<Outcome> {
  const begun = performance.now();
  const answer: Asked<QueryData> =
    kind === 'table'
      ? await form('/api/v1/query', { query, time: at.to / SECOND, stats: 'all' }, signal)
      : await form('/api/v1/query_range', { query, start: at.from / SECOND, end: at.to / SECOND, step: stepSecs, stats: 'all' }, signal);
  const rows = rowsOf(answer.data);
  const series: MatrixSeries[] = kind === 'graph' && answer.data.resultType === 'matrix' ? answer.data.result.slice(0, GRAPH_MAX) : [];
  return {
    kind,
    rows: rows.slice(0, TABLE_MAX),
    frame: frameOf(series, ({ metric }) => nameOf(metric), at, stepSecs),
    stats: answer.data.stats,
    remarks: [...answer.warnings, ...answer.infos],
    took: performance.now() - begun,
    total: rows.length,
  };
}
