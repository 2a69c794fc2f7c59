//! PromQL over HTTP.

import { SECOND, type Span } from '../time';
import { form, type Asked } from './client';
import type { MatrixSeries, QueryData, VectorSample } from './types';

/** A text as PromQL's string, whatever is in it. */
export function quoted(text: string): string {
  return JSON.stringify(text);
}

export async function instant(query: string, timeMs?: number, signal?: AbortSignal): Promise<VectorSample[]> {
  const { data } = await form<QueryData>('/api/v1/query', { query, time: timeMs === undefined ? undefined : timeMs / SECOND }, signal);
  return data.resultType === 'vector' ? data.result : [];
}

export async function range(query: string, span: Span, stepSecs: number, signal?: AbortSignal): Promise<MatrixSeries[]> {
  const { data } = await form<QueryData>(
    '/api/v1/query_range',
    { query, start: span.from / SECOND, end: span.to / SECOND, step: stepSecs },
    signal,
  );
  return data.resultType === 'matrix' ? data.result : [];
}

export type Explained = Asked<QueryData>;
