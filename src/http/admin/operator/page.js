// The operator's page as it goes on: parts are replaced by their id as they come, and changes are asked for twice.
'use strict';
let key = null;
let stream = null;
const headers = more => ({ ...(key && { authorization: `Bearer ${key}` }), ...more });
const parse = text => new DOMParser().parseFromString(text.replace(/<style[^]*?<\/style>/, ''), 'text/html').body;
const note = () => document.getElementById('note');
const say = text => {
  note().textContent = text;
  setTimeout(() => { if (text !== LOST && note().textContent === text) say(''); }, 8000);
};
const LOST = 'Not connected: these are the last figures.';
const found = () => { if (note().textContent === LOST) say(''); };

// Focus, scrolling and a selection stay where they are.
function show(text) {
  for (const part of [...parse(text).children]) {
    const old = document.getElementById(part.id);
    if (!old || (!getSelection().isCollapsed && getSelection().containsNode(old, true))) continue;
    const places = of => [...of.querySelectorAll('button, [tabindex]')];
    const focused = places(old).indexOf(document.activeElement);
    const scrolled = [...old.querySelectorAll('.scroll')].map(it => it.scrollTop);
    old.replaceWith(part);
    part.querySelectorAll('.scroll').forEach((it, at) => { it.scrollTop = scrolled[at] || 0; });
    if (focused >= 0) places(part)[focused]?.focus();
  }
}

// An EventSource sends no key, so with one the same events are read by hand.
async function read(signal) {
  const answer = await fetch('/operator/live', { headers: headers(), signal });
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let rest = '', got; !(got = await reader.read()).done;) {
    const events = (rest + got.value).split('\n\n');
    rest = events.pop();
    const data = event => event.split('\n').filter(line => line.startsWith('data: ')).map(line => line.slice(6));
    events.forEach(event => show(data(event).join('\n')));
    found();
  }
}

function open() {
  const lost = () => say(LOST);
  if (key) {
    const control = new AbortController();
    stream = { close: () => control.abort() };
    const again = () => { if (!control.signal.aborted) { lost(); setTimeout(() => document.hidden || open(), 2000); } };
    read(control.signal).then(again, again);
  } else {
    stream = new EventSource('/operator/live');
    stream.addEventListener('part', event => show(event.data));
    stream.onopen = found;
    stream.onerror = lost;
  }
}

document.addEventListener('visibilitychange', () => {
  stream?.close();
  if (stream && !document.hidden) open();
});

document.addEventListener('submit', async event => {
  const form = event.target;
  event.preventDefault();
  if (form.id === 'key') {
    key = document.getElementById('secret').value;
    const page = await fetch('/', { headers: headers() });
    if (!page.ok) return say('This key is not known, or has no scope admin.');
    document.body.replaceChildren(...parse(await page.text()).childNodes);
    return open();
  }
  if (form.dataset.ask && !confirm(form.dataset.ask)) return;
  const url = form.dataset.ask ? '/operator/act' : form.action;
  const sent = { method: 'POST', headers: headers({ 'x-scoreline-action': 'confirmed' }), body: new URLSearchParams(new FormData(form)) };
  try {
    const answer = await fetch(url, sent);
    if (!form.dataset.ask && answer.ok) return document.getElementById('tried').replaceChildren(...parse(await answer.text()).childNodes);
    const told = await answer.json();
    say(answer.ok ? told.message : told.error.message);
  } catch { say('Not sent: there is no connection.'); }
});

if (document.getElementById('status')) open();
