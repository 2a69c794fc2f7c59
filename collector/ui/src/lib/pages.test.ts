import { expect, it } from 'vitest';
import { hostPath, pageOf } from './pages';

it('addresses name pages', () => {
  expect(pageOf('/')).toEqual({ page: 'fleet' });
  expect(pageOf(hostPath('a/b <c>'))).toEqual({ page: 'host', name: 'a/b <c>' });
  expect(pageOf('/alerts/abc')).toEqual({ page: 'alert', fingerprint: 'abc' });
  expect(pageOf('/graph')).toEqual({ page: 'explore' });
  for (const wrong of ['/hosts/%', '/nope', '/hosts/a/b', '//evil']) expect(pageOf(wrong).page).toBe('nowhere');
});
