import { expect, it } from 'vitest';
import { appended, frameOf, number, stacked } from './frame';

const series = (points: [number, string][]) => ({ metric: { mode: 'user' }, values: points });

it('series lie on the times of their query, with gaps', () => {
  const frame = frameOf([series([[10, '1'], [30, 'NaN'], [40, '4']])], (one) => one.metric['mode'] ?? '', { from: 10_000, to: 40_000 }, 10);
  expect(frame).toEqual({ times: [10, 20, 30, 40], lines: [{ label: 'user', values: [1, null, null, 4] }] });
});

it('a live moment comes at the end and the oldest goes', () => {
  const frame = { times: [1, 2], lines: [{ label: 'a', values: [1, 2] }] };
  expect(appended(frame, 3, new Map([['a', 3], ['b', 9]]), 2)).toEqual({
    times: [2, 3],
    lines: [{ label: 'a', values: [2, 3] }, { label: 'b', values: [null, 9] }],
  });
  expect(appended(frame, 2, new Map([['a', 7]]), 0)).toBe(frame);
});

it('stacks add up', () => {
  expect(stacked([{ label: 'a', values: [1, null] }, { label: 'b', values: [2, 3] }])[1]?.values).toEqual([3, 3]);
});

it('what is no number is a gap', () => {
  expect(['1.5', 'NaN', '+Inf', '-Inf'].map(number)).toEqual([1.5, null, null, null]);
});
