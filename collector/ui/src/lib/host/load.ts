//! Fills a host's chart: its questions over a span, and the same questions live.

import { range as askRange } from '../api/query';
import type { Labels } from '../api/types';
import { EMPTY, frameOf, type Frame } from '../charts/frame';
import type { Span } from '../time';
import type { Panel } from './panels';

/** A rate looks back over several samples, and over whole buckets where rollups answer. */
export function rateWindow(stepSecs: number): string {
  return `${Math.max(stepSecs, 5)}s`;
}

export async function loadPanel(panel: Panel, instance: string, at: Span, stepSecs: number, signal: AbortSignal): Promise<Frame> {
  const questions = panel.ask(instance, rateWindow(stepSecs));
  const answers = await Promise.all(questions.map(({ query }) => askRange(query, at, stepSecs, signal)));
  const frames = answers.map((series, nth) => frameOf(series, ({ metric }) => questions[nth]?.label(metric) ?? '', at, stepSecs));
  const times = frames[0]?.times ?? EMPTY.times;
  // In a stack what is always nothing has no area, only a name.
  const says = (value: number | null) => value !== null && !(panel.isStacked && value === 0);
  const lines = frames.flatMap((frame) => frame.lines).filter((line) => line.values.some(says));
  return { times, lines };
}

/** The values of one live beat by the labels of a panel's lines. */
export function liveValues(
  panel: Panel,
  instance: string,
  stepSecs: number,
  results: readonly { labels: Labels; value: string }[][],
): Map<string, number | null> {
  const values = new Map<string, number | null>();
  panel.ask(instance, rateWindow(stepSecs)).forEach((question, nth) => {
    for (const sample of results[nth] ?? []) {
      const value = Number(sample.value);
      values.set(question.label(sample.labels), Number.isFinite(value) ? value : null);
    }
  });
  return values;
}
