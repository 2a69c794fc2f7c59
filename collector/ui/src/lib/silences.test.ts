import { expect, test } from 'vitest';
import { matchersText, parseMatchers, recurrenceText, weekly } from './silences';

test('matchers are read as they are written elsewhere', () => {
  expect(parseMatchers('{instance="db-1", severity=~"info|warning",}')).toEqual([
    { name: 'instance', value: 'db-1', isRegex: false, isEqual: true },
    { name: 'severity', value: 'info|warning', isRegex: true, isEqual: true },
  ]);
  expect(parseMatchers('env!=prod')).toEqual([{ name: 'env', value: 'prod', isRegex: false, isEqual: false }]);
  expect(parseMatchers('a="say \\"no\\", twice"')?.[0]?.value).toBe('say "no", twice');
  expect(parseMatchers('')).toEqual([]);
  for (const wrong of ['db-1', 'a="b', 'a=="b"x', '="b"']) expect(parseMatchers(wrong)).toBeUndefined();
});

test('matchers are written as they are read', () => {
  const all = [
    { name: 'a', value: 'say "no"\n\\twice', isRegex: false, isEqual: true },
    { name: 'b', value: 'x|y, z', isRegex: true, isEqual: false },
  ];
  expect(matchersText(all)).toBe('a="say \\"no\\"\\n\\\\twice", b!~"x|y, z"');
  expect(parseMatchers(matchersText(all))).toEqual(all);
});

test('a window over midnight ends on the day after', () => {
  expect(weekly([1], '02:00', '04:00', 'UTC')).toEqual([{ weekdays: ['tuesday'], times: [{ start_time: '02:00', end_time: '04:00' }], location: 'UTC' }]);
  const night = weekly([6], '22:00', '03:00', 'Europe/Berlin');
  expect(night.map((one) => one.weekdays)).toEqual([['sunday'], ['monday']]);
  expect(recurrenceText(night)).toBe('Sun 22:00–24:00 Europe/Berlin and Mon 00:00–03:00 Europe/Berlin');
  expect(weekly([0], '22:00', '00:00', 'UTC')).toHaveLength(1);
});
