//! Who is signed in, and what they may do.

import { Problem, change, get, whenSignedOut } from './api/client';
import type { Session } from './api/types';

type Known = { kind: 'unknown' } | { kind: 'out' } | { kind: 'in'; session: Session } | { kind: 'problem'; problem: Problem };

const PATH = '/api/v1/pitwatch/session';
const RANK = { writer: 0, viewer: 1, operator: 2, admin: 3 } as const;

let known = $state.raw<Known>({ kind: 'unknown' });

export const session = {
  get known() {
    return known;
  },
  get name() {
    return known.kind === 'in' ? known.session.name : '';
  },
  get role() {
    return known.kind === 'in' ? known.session.role : 'writer';
  },
  may(role: 'operator' | 'admin'): boolean {
    return known.kind === 'in' && RANK[known.session.role] >= RANK[role];
  },
};

/** Why something cannot be done, or nothing if it can. */
export function missingRole(role: 'operator' | 'admin'): string {
  return session.may(role) ? '' : `The role ${role} is needed; this token has the role ${session.role}.`;
}

export async function look(): Promise<void> {
  try {
    known = { kind: 'in', session: await get<Session>(PATH) };
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    known = error.kind === 'signed-out' ? { kind: 'out' } : { kind: 'problem', problem: error };
  }
}

export async function signIn(token: string): Promise<void> {
  known = { kind: 'in', session: await change<Session>('POST', PATH, { token }) };
}

export async function signOut(): Promise<void> {
  await change('DELETE', PATH);
  known = { kind: 'out' };
}

whenSignedOut(() => (known = { kind: 'out' }));
