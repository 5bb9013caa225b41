'use strict';
(() => {
  // What comes from documents is only ever put in as text, never as markup.
  const started = performance.now();
  const byId = (id) => document.getElementById(id);
  const make = (tag, name, text) => {
    const element = document.createElement(tag);
    if (name) element.className = name;
    if (text !== undefined && text !== null) element.textContent = text;
    return element;
  };
  const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);
  const records = [...document.querySelectorAll('script.record')].map((s) => JSON.parse(s.textContent));
  const pageTitle = document.title;

  // ---- what was corrected: kept by document, together with what it was corrected from
  const hashOf = (text) => {
    let h1 = 0xdeadbeef, h2 = 0x41c6ce57;
    for (let i = 0; i < text.length; i++) {
      const c = text.charCodeAt(i);
      h1 = Math.imul(h1 ^ c, 2654435761);
      h2 = Math.imul(h2 ^ c, 1597334677);
    }
    return (h1 >>> 0).toString(16) + (h2 >>> 0).toString(16);
  };
  // What failed does not say by which pipeline.
  const first = records.find((r) => r.provenance.pipeline) || { provenance: {} };
  const storeKey = 'quarry-review:' + pageTitle + ':' + location.pathname;
  let store = {};
  let storageFault = '';
  try {
    store = JSON.parse(localStorage.getItem(storeKey) || '{}') || {};
  } catch (fault) {
    storageFault = 'This browser keeps nothing: save the golden file before you close the page.';
  }
  const keep = () => {
    try {
      localStorage.setItem(storeKey, JSON.stringify(store));
    } catch (fault) {
      storageFault = 'This browser keeps nothing: save the golden file before you close the page.';
    }
  };
  for (const record of records) {
    record.base = hashOf(JSON.stringify(record.steps.map((s) => [s.id, s.value])));
    record.words = [record.document, record.state].concat(record.steps.flatMap((s) => s.claims.map((c) =>
      c.label + ' ' + (typeof c.value === 'string' ? c.value : JSON.stringify(c.value))))).join('\n').toLowerCase();
  }
  const review = (record, create) => {
    const kept = store[record.document];
    if (kept && kept.base === record.base) return kept;
    if (!create) return { edits: {}, out: {}, right: false };
    return (store[record.document] = { base: record.base, edits: {}, out: {}, right: false });
  };
  const isStale = (record) => {
    const kept = store[record.document];
    return kept !== undefined && kept.base !== record.base;
  };
  const keyOf = (step, claim) => step.id + ' ' + JSON.stringify(claim.path);
  const outKey = (step, item) => step.id + ' ' + item;
  const isTouched = (record) => {
    const kept = review(record);
    return Object.keys(kept.edits).length > 0 || Object.keys(kept.out).length > 0;
  };
  const isDone = (record) => review(record).right || isTouched(record);
  const valueOf = (record, step, claim) => {
    const edits = review(record).edits, key = keyOf(step, claim);
    return Object.hasOwn(edits, key) ? edits[key] : claim.value;
  };

  // ---- the list
  const states = [...new Set(records.map((r) => r.state))];
  const filters = [['all', () => true], ['to do', (r) => !isDone(r)], ['done', isDone]]
    .concat(states.length > 1 ? states.map((s) => [s, (r) => r.state === s]) : []);
  if (records.some((r) => r.min_support < 0.6 && r.state !== 'failed')) {
    filters.push(['weak', (r) => r.min_support < 0.6]);
  }
  let filter = 0, query = '', current = -1, focus = 0, editing = null;
  let visible = [];
  const buttons = new Map();

  const hintOf = (record) => {
    if (record.state === 'failed') return record.remarks[0] || '';
    const claims = record.steps.flatMap((s) => s.claims);
    const missing = claims.filter((c) => c.missing && c.missing.length).length;
    const parts = [];
    if (missing) parts.push(missing + ' without evidence');
    if (record.min_support < 1 && !missing) parts.push('least ' + record.min_support.toFixed(2));
    if (isTouched(record)) parts.push('corrected');
    return parts.join(' · ');
  };
  const drawList = () => {
    const words = query.toLowerCase().split(/\s+/).filter(Boolean);
    const texts = (r) => r.words + '\n' + r.blocks.map((b) => (b ? b.text : '')).join('\n').toLowerCase();
    visible = records.map((_, i) => i).filter((i) => filters[filter][1](records[i]) &&
      (words.length === 0 || words.every((w) => records[i].words.includes(w)) ||
        words.every((w) => texts(records[i]).includes(w))));
    const list = byId('list');
    list.replaceChildren();
    buttons.clear();
    for (const i of visible) {
      const record = records[i];
      const button = make('button');
      button.type = 'button';
      const name = make('span', 'name', record.name || record.document);
      name.title = record.document;
      const state = make('span', 'state ' + record.state, record.state);
      if (isDone(record)) state.prepend(make('span', 'tick', '✓ '));
      button.append(name, state);
      const hint = hintOf(record);
      if (hint) button.append(make('span', 'hint', hint));
      button.setAttribute('aria-current', String(i === current));
      button.addEventListener('click', () => show(i));
      buttons.set(i, button);
      const item = make('li');
      item.append(button);
      list.append(item);
    }
    byId('none').hidden = visible.length > 0;
    for (const [at, button] of [...byId('filters').children].entries()) {
      button.setAttribute('aria-pressed', String(at === filter));
    }
    const done = records.filter(isDone).length;
    byId('progress').textContent = storageFault || done + ' of ' + records.length + ' reviewed';
  };

  // ---- the source
  const drawSource = (record) => {
    const pane = byId('source');
    pane.replaceChildren();
    const marks = new Map(); // block -> [start, end, claim]
    const claims = record.steps.flatMap((s) => s.claims);
    claims.forEach((claim, at) => {
      for (const [block, start, end] of claim.marks || []) {
        if (!marks.has(block)) marks.set(block, []);
        marks.get(block).push([start, end, at]);
      }
    });
    const heading = make('h2', '', record.document);
    pane.append(heading);
    let page = null, gap = 0, head = null;
    const endGap = () => {
      if (gap) pane.append(make('p', 'gap', gap + (gap === 1 ? ' paragraph is' : ' paragraphs are') +
        ' not shown: the text is long, and this page holds what is around the evidence'));
      gap = 0;
    };
    record.blocks.forEach((block, at) => {
      if (block === null) { gap += 1; return; }
      endGap();
      if (at >= record.passages_from && block.head !== head) {
        pane.append(make('h2', '', 'Passage: ' + (block.head || '') + (block.at ? ' · ' + block.at : '')));
        head = block.head;
      } else if (at < record.passages_from && block.page && block.page !== page) {
        page = block.page;
        pane.append(make('p', 'page', 'page ' + page));
      }
      const box = make('div', 'block');
      if (block.id) {
        const who = make('span', 'who', (block.head ? block.head + ' ' : '') );
        who.append(make('span', 'when', block.id + (block.at ? ' · ' + block.at : '')));
        box.append(who);
      }
      const here = marks.get(at) || [];
      const cuts = [...new Set([0, block.text.length].concat(here.flatMap(([s, e]) => [s, e])))].sort((a, b) => a - b);
      for (let i = 0; i + 1 < cuts.length; i++) {
        const part = block.text.slice(cuts[i], cuts[i + 1]);
        const owners = here.filter(([s, e]) => s <= cuts[i] && e >= cuts[i + 1]).map(([, , claim]) => claim);
        if (owners.length === 0) { box.append(part); continue; }
        const mark = make('mark', '', part);
        mark.dataset.claims = ' ' + owners.join(' ') + ' ';
        mark.addEventListener('click', () => point(owners[0]));
        box.append(mark);
      }
      pane.append(box);
    });
    endGap();
    if (record.blocks.length === 0) pane.append(make('p', 'quiet', 'There is no text to show.'));
    pane.scrollTop = 0;
  };

  // ---- the record
  const shown = (value) => {
    if (value === null || value === undefined) return 'none';
    if (typeof value === 'string') return value === '' ? '(empty)' : value;
    if (Array.isArray(value) && value.every((v) => typeof v !== 'object')) return value.length ? value.join('; ') : '(no items)';
    return JSON.stringify(value);
  };
  let rows = []; // { step, claim, box }
  const drawRecord = (record) => {
    const pane = byId('record');
    pane.replaceChildren();
    rows = [];
    const title = make('h2', '');
    title.append(make('span', 'state ' + record.state, record.state));
    if (review(record).right) title.append(make('span', 'tick', ' ✓ found right'));
    pane.append(title);
    for (const remark of record.remarks || []) pane.append(make('p', 'notice ' + record.state, remark));
    for (const warning of record.warnings || []) pane.append(make('p', 'notice', warning));
    if (isStale(record)) {
      const notice = make('p', 'notice', 'It was corrected before, when it said something else. ');
      const forget = make('button', '', 'Forget that correction');
      forget.type = 'button';
      forget.addEventListener('click', () => { delete store[record.document]; keep(); draw(); });
      notice.append(forget);
      pane.append(notice);
    }
    for (const step of record.steps) {
      const box = make('div', 'step');
      const name = make('h3', '', step.id);
      name.append(make('span', 'verb', step.verb));
      box.append(name);
      if (step.claims.length === 0) {
        const empty = step.value === null ? 'The step was left out.' : 'Nothing was found.';
        box.append(make('p', 'quiet', empty));
      }
      let item = null, holder = box;
      for (const claim of step.claims) {
        if (claim.item !== undefined && claim.item !== item) {
          item = claim.item;
          holder = make('div', 'item');
          const isOut = Object.hasOwn(review(record).out, outKey(step, item));
          if (isOut) holder.classList.add('out');
          const count = make('p', 'count', String(item + 1));
          const button = make('button', '', isOut ? 'take back in' : 'leave out');
          button.type = 'button';
          const which = item;
          button.addEventListener('click', () => leaveOut(step, which));
          count.append(button);
          holder.append(count);
          box.append(holder);
        }
        holder.append(drawClaim(record, step, claim, rows.length));
      }
      pane.append(box);
    }
    const from = record.provenance || {};
    pane.append(make('p', 'foot', [record.document, record.sha256 && 'sha256 ' + record.sha256.slice(0, 12),
      from.model && 'model ' + from.model.name, from.pipeline && 'pipeline ' + from.pipeline,
      from.quarry && 'quarry ' + from.quarry].filter(Boolean).join(' · ')));
  };
  const drawClaim = (record, step, claim, at) => {
    const value = valueOf(record, step, claim);
    const box = make('div', 'claim');
    box.setAttribute('role', 'button');
    box.tabIndex = -1;
    box.setAttribute('aria-label', step.id + ', ' + claim.label + ': ' + shown(value));
    const isChanged = !same(value, claim.value);
    if (isChanged) box.classList.add('changed');
    box.append(make('span', 'label', claim.label),
      make('span', value === null || value === undefined ? 'value none' : 'value', shown(value)));
    const p = make('span', 'p');
    if (claim.p !== undefined) {
      p.textContent = claim.p.toFixed(2);
      p.title = 'support or probability';
      const meter = make('meter');
      meter.min = 0; meter.max = 1; meter.low = 0.5; meter.high = 0.8; meter.optimum = 1; meter.value = claim.p;
      meter.setAttribute('aria-hidden', 'true');
      p.append(meter);
    }
    box.append(p);
    if (isChanged) box.append(make('span', 'was', shown(claim.value)));
    for (const words of claim.missing || []) box.append(make('span', 'missing', 'not in the source: ' + words));
    for (const words of claim.remarks || []) box.append(make('span', 'say', words));
    const weighed = (claim.options || []).filter(([, p]) => p !== null).slice(0, 5);
    if (weighed.length > 1) {
      const table = make('span', 'options');
      for (const [label, probability] of weighed) {
        const meter = make('meter');
        meter.value = probability;
        meter.setAttribute('aria-hidden', 'true');
        table.append(make('span', '', label), meter, make('span', '', probability.toFixed(2)));
      }
      box.append(table);
    }
    box.addEventListener('click', () => { if (!editing) point(at); });
    box.addEventListener('dblclick', () => edit());
    rows.push({ step, claim, box });
    return box;
  };

  // ---- moving about
  const point = (at, quiet) => {
    if (rows.length === 0) return;
    focus = Math.max(0, Math.min(rows.length - 1, at));
    rows.forEach((row, i) => {
      row.box.classList.toggle('on', i === focus);
      row.box.tabIndex = i === focus ? 0 : -1;
    });
    const box = rows[focus].box;
    if (!quiet) box.focus({ preventScroll: true });
    box.scrollIntoView({ block: 'nearest' });
    let scrolled = false;
    for (const mark of document.querySelectorAll('mark')) {
      const on = mark.dataset.claims.includes(' ' + focus + ' ');
      mark.classList.toggle('on', on);
      if (on && !scrolled) { mark.scrollIntoView({ block: 'center' }); scrolled = true; }
    }
  };
  const show = (i) => {
    if (i < 0 || i >= records.length) return;
    editing = null;
    current = i;
    focus = 0;
    for (const [at, button] of buttons) button.setAttribute('aria-current', String(at === i));
    drawSource(records[i]);
    drawRecord(records[i]);
    point(0);
    buttons.get(i)?.scrollIntoView({ block: 'nearest' });
  };
  const draw = () => {
    const at = focus;
    drawList();
    if (current >= 0) { drawRecord(records[current]); point(at); }
  };
  const step = (by) => {
    const at = visible.indexOf(current);
    const next = at < 0 ? (visible.length ? visible[0] : -1) : visible[at + by];
    if (next !== undefined && next >= 0) show(next);
  };

  // ---- correcting
  const record = () => records[current];
  const change = (row, value) => {
    const kept = review(record(), true), key = keyOf(row.step, row.claim);
    if (same(value, row.claim.value)) delete kept.edits[key]; else kept.edits[key] = value;
    keep();
    draw();
  };
  // A number stays one, and text stays text, whatever it looks like.
  const read = (text, was) => {
    if (typeof was === 'string') return text;
    if (text.trim() === '' || text.trim() === 'none') return null;
    try { return JSON.parse(text); } catch (fault) { /* it is text */ }
    if (Array.isArray(was)) return text.split(';').map((t) => t.trim()).filter(Boolean);
    return text;
  };
  const edit = () => {
    const row = rows[focus];
    if (!row || editing) return;
    const value = valueOf(record(), row.step, row.claim);
    const options = row.claim.options || [];
    const isLong = typeof value === 'string' && value.length > 60;
    const input = make(options.length ? 'select' : isLong ? 'textarea' : 'input', 'edit');
    if (options.length) {
      for (const [label] of options) input.append(new Option(label, label, false, label === value));
      if (value === null) { input.prepend(new Option('(none)', '')); input.value = ''; }
    } else {
      input.value = value === null ? '' : typeof value === 'string' ? value :
        Array.isArray(value) && value.every((v) => typeof v === 'string') ? value.join('; ') : JSON.stringify(value);
      if (isLong) input.rows = Math.min(10, Math.ceil(input.value.length / 45));
    }
    input.setAttribute('aria-label', 'New value of ' + row.claim.label);
    editing = { row, input };
    const end = (isKept) => {
      if (!editing) return;
      editing = null;
      if (!isKept) { draw(); return; }
      const text = input.value;
      if (options.length) change(row, text === '' ? null : text);
      else if (value === null && text === '') change(row, null);
      else change(row, value === null ? read(text, 0) : read(text, value));
    };
    input.addEventListener('keydown', (event) => {
      event.stopPropagation();
      if (event.key === 'Escape') end(false);
      if (event.key === 'Enter' && !event.shiftKey) { event.preventDefault(); end(true); }
    });
    input.addEventListener('blur', () => end(true));
    row.box.append(input);
    input.focus();
    if (input.select) input.select();
  };
  const leaveOut = (step, item) => {
    const kept = review(record(), true), key = outKey(step, item);
    if (Object.hasOwn(kept.out, key)) delete kept.out[key]; else kept.out[key] = true;
    keep();
    draw();
  };

  // ---- the golden file
  const golden = (record) => {
    const kept = review(record), steps = {}, changed = Object.keys(kept.edits).concat(Object.keys(kept.out));
    for (const step of record.steps) {
      if (step.value === null) continue;
      const value = structuredClone(step.value);
      for (const claim of step.claims) {
        const key = keyOf(step, claim);
        if (!Object.hasOwn(kept.edits, key)) continue;
        let at = value;
        claim.path.slice(0, -1).forEach((part) => { at = at[part]; });
        if (claim.path.length) at[claim.path.at(-1)] = kept.edits[key]; else { steps[step.id] = kept.edits[key]; }
      }
      if (Object.hasOwn(steps, step.id)) continue;
      if (value && value.probabilities) {
        steps[step.id] = value.labels !== undefined ? { labels: value.labels } : { label: value.label };
      } else if (value && Array.isArray(value.citations)) {
        const refused = valueOf(record, step, step.claims[0]) !== 'answered';
        const sentences = (value.sentences || []).map((s) => s.text);
        steps[step.id] = refused ? { unanswerable: true } :
          { answer: sentences.length ? sentences.join(' ') : value.text, source: [...new Set(value.citations.map((c) => c.file))] };
      } else if (value && Array.isArray(value.sentences)) {
        steps[step.id] = { text: value.sentences.map((s) => (typeof s === 'string' ? s : s.text)).filter(Boolean).join('\n') };
      } else if (Array.isArray(value)) {
        steps[step.id] = value.filter((_, i) => !Object.hasOwn(kept.out, outKey(step, i)));
      } else {
        steps[step.id] = value;
      }
    }
    return { document: record.document, sha256: record.sha256, steps,
      review: { status: changed.length ? 'corrected' : 'right', changed } };
  };
  const goldenText = () => records.filter(isDone).map((r) => JSON.stringify(golden(r)) + '\n').join('');
  const save = () => {
    if (!records.some(isDone)) {
      byId('progress').textContent = 'Nothing to save yet: correct a value (e) or find a record right (a).';
      return;
    }
    const link = make('a');
    link.href = URL.createObjectURL(new Blob([goldenText()], { type: 'application/x-ndjson' }));
    link.download = pageTitle.replace(/[^\p{L}\p{N}._-]+/gu, '-') + '.golden.jsonl';
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    byId('progress').textContent = 'Saved ' + records.filter(isDone).length + ' documents as ' + link.download;
  };

  // ---- keys
  const help = byId('help');
  const keys = {
    j: () => step(1),
    k: () => step(-1),
    n: () => point(focus + 1),
    p: () => point(focus - 1),
    e: edit,
    x: () => { if (rows[focus]) change(rows[focus], null); },
    u: () => { if (rows[focus]) change(rows[focus], rows[focus].claim.value); },
    d: () => { const row = rows[focus]; if (row && row.claim.item !== undefined) leaveOut(row.step, row.claim.item); },
    a: () => {
      if (current < 0) return;
      const kept = review(record(), true);
      kept.right = !kept.right;
      keep();
      draw();
    },
    f: () => { filter = (filter + 1) % filters.length; drawList(); },
    s: save,
    '/': () => byId('search').focus(),
    '?': () => help.showModal(),
  };
  keys.ArrowDown = keys.n;
  keys.ArrowUp = keys.p;
  keys.Enter = edit;
  document.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || help.open) return;
    const target = event.target;
    if (target.matches('input, textarea, select')) {
      if (event.key === 'Escape') { target.blur(); point(focus); }
      return;
    }
    if (event.key === 'Enter' && target.matches('button')) return;
    const action = keys[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  });
  byId('search').addEventListener('input', (event) => { query = event.target.value; drawList(); });
  byId('search').addEventListener('keydown', (event) => {
    if (event.key !== 'Enter' || visible.length === 0) return;
    event.preventDefault();
    event.target.blur();
    show(visible[0]);
  });
  byId('save').addEventListener('click', save);
  byId('show-help').addEventListener('click', () => help.showModal());
  filters.forEach(([name], at) => {
    const button = make('button', '', name);
    button.type = 'button';
    button.addEventListener('click', () => { filter = at; drawList(); });
    byId('filters').append(button);
  });

  byId('title').textContent = 'Review: ' + pageTitle;
  byId('subtitle').textContent = [first.provenance.pipeline && 'pipeline ' + first.provenance.pipeline,
    first.provenance.model && 'model ' + first.provenance.model.name].filter(Boolean).join(' · ');
  drawList();
  if (records.length) show(0);
  else byId('record').append(make('p', 'quiet', 'There is nothing to review: no document fits the output’s condition.'));
  document.documentElement.dataset.ready = String(records.length);
  document.documentElement.dataset.ms = String(Math.round(performance.now() - started));
})();
