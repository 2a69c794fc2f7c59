import { describe, expect, it } from 'vitest';
import { DAY, HOUR, MINUTE, aligned, duration, moved, parseDuration, parseRange, rangeParams, shortDuration, stepFor } from './time';

describe('durations', () => {
  it('are said in two units', () => {
    expect(duration(0)).toBe('0 ms');
    expect(duration(1500)).toBe('2 s');
    expect(duration(HOUR + 5 * MINUTE + 7000)).toBe('1 h 5 m');
    expect(duration(2 * DAY + MINUTE)).toBe('2 d');
    expect(duration(Infinity)).toBe('–');
  });
  it('are read as they are written', () => {
    for (const ms of [1000, 90_000, HOUR, 36 * HOUR]) expect(parseDuration(shortDuration(ms))).toBe(ms);
    for (const wrong of ['', '1', 'h', '1h ', '-1h', '1e3s', '99999999999999999d']) expect(parseDuration(wrong)).toBeUndefined();
  });
});

describe('ranges in an address', () => {
  const read = (text: string) => parseRange(new URLSearchParams(text), HOUR);
  it('come back as they were written', () => {
    for (const range of [{ kind: 'last', ms: 6 * HOUR }, { kind: 'fixed', from: 1e12, to: 1e12 + DAY }] as const) {
      const params = Object.entries(rangeParams(range)).filter((pair): pair is [string, string] => pair[1] !== undefined);
      expect(parseRange(new URLSearchParams(params), HOUR)).toEqual(range);
    }
  });
  it('fall back to the last hour when they are nonsense', () => {
    for (const text of ['', 'range=x', 'range=0s', 'from=1&to=1', 'from=5&to=a', 'from=-9&to=99999999', 'from=1e300&to=1e301', 'range=99999d']) {
      expect(read(text)).toEqual({ kind: 'last', ms: HOUR });
    }
  });
  it('move and grow around the middle', () => {
    expect(moved({ from: 0, to: 1000_000 }, 0.5)).toEqual({ kind: 'fixed', from: 500_000, to: 1500_000 });
    expect(moved({ from: 0, to: 1000_000 }, 0, 0.5)).toEqual({ kind: 'fixed', from: 250_000, to: 750_000 });
  });
});

it('steps are such that rollups can answer, and spans lie on them', () => {
  expect(stepFor({ from: 0, to: 5 * MINUTE }, 600)).toBe(1);
  expect(stepFor({ from: 0, to: DAY }, 600)).toBe(300);
  expect(stepFor({ from: 0, to: 30 * DAY }, 600)).toBe(7200);
  expect(aligned({ from: 61_000, to: 179_000 }, 60)).toEqual({ from: 60_000, to: 120_000 });
});
