//! The time, second by second, for whatever says how long ago something was.

let now = $state(Date.now());

setInterval(() => {
  if (!document.hidden) now = Date.now();
}, 1000);

export const clockwork = {
  get now() {
    return now;
  },
};
