"use strict";
// The page's own script. Text from the data becomes text nodes and attributes, never markup.
const D = JSON.parse(document.getElementById("data").textContent);
const C = D.checks, N = C.owner.length;
const $ = (selector) => document.querySelector(selector);
const by = (name) => document.getElementById(name);

// Characters that cannot be seen, or that turn the line around, are shown by their numbers.
const seen = (text) => String(text).replace(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]/gu,
  (c) => `⟨U+${c.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`);

const SVG = "http://www.w3.org/2000/svg";
function make(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children.flat(9)) if (child !== null && child !== undefined && child !== false)
    node.append(child instanceof Node ? child : seen(child));
  return node;
}
const h = (tag, attributes, ...children) => make(document.createElement(tag), attributes, children);
const s = (tag, attributes, ...children) => make(document.createElementNS(SVG, tag), attributes, children);

const statusOf = (i) => D.statuses[C.status[i]];
const isAside = (name) => name === "unsupported" || name === "not-exercised";
const ownerName = (o) => `${o.operation}/${o.implementation}@${o.device}`;
const runLabel = (o) => (o.run ? D.runs[o.run] || o.run : "");
const idOf = (i) => (i in D.ids ? D.ids[i] : `${ownerName(D.owners[C.owner[i]])}:${D.cases[C.case[i]].name}`);
const whole = (text) => text.replace(/[\ud800-\udfff]/gu, "\ufffd"); // half a character has no address
// In a merge the same check is there once for each run: the address of one says which.
const nameOf = (i) => whole(`${idOf(i)} ${runLabel(D.owners[C.owner[i]])}`.trimEnd());
const linkOf = (i) => `#${encodeURIComponent(nameOf(i)).replace(/%(2F|40|3A)/g, decodeURIComponent)}`;
const namesOf = (i) => D.mistakes[C.mistake[i]];
const numberOf = (value) => (value === null ? "" : typeof value === "number" ? String(value).replace("-", "−") : value);
const secondsOf = (value) => (typeof value !== "number" ? numberOf(value) : value < 1 ? `${Math.round(value * 1000)} ms` : `${value.toFixed(1)} s`);
const sign = (status) => h("span", { class: `sign s-${status.name}`, "aria-hidden": "true" }, status.sign);
const statusTag = (status, word) => h("span", { class: `status s-${status.name}` }, sign(status), word || status.name);

// The order of the list: what does not conform first, and then as it was asked.
const order = [...Array(N).keys()].sort((a, b) => statusOf(b).bad - statusOf(a).bad || a - b);
let listed = order;
let byId = null;
function find(id) {
  if (!byId) {
    byId = new Map();
    for (let i = N - 1; i >= 0; i--) byId.set(whole(idOf(i)), i).set(nameOf(i), i);
  }
  return byId.get(id);
}

// The matrix.
function grouped(keys) {
  const groups = new Map();
  keys.forEach((key, i) => groups.has(key) ? groups.get(key).push(i) : groups.set(key, [i]));
  return groups;
}
const compare = new Intl.Collator("en", { numeric: true }).compare;
// The owners of each operation, those that do not conform first.
function operations() {
  return [...grouped(D.owners.map((o) => o.operation))].sort(([a], [b]) => compare(a, b)).map(([operation, owners]) =>
    [operation, owners.sort((a, b) => isBad[b] - isBad[a] || compare(ownerKey(D.owners[a]), ownerKey(D.owners[b])))]);
}
function labelOf(o, alone) {
  return `${alone ? "" : `${o.operation}/`}${o.implementation}@${o.device}${o.run ? ` ${runLabel(o)}` : ""}`;
}
function cell(counts, href, words) {
  const bad = D.statuses.reduce((sum, status, k) => sum + (status.bad ? counts[k] : 0), 0);
  const of = (name) => counts[D.statuses.findIndex((status) => status.name === name)];
  const aside = of("unsupported") + of("not-exercised"), all = counts.reduce((a, b) => a + b);
  const part = aside && aside < all ? " part" : "";
  const told = D.statuses.flatMap((status, k) => counts[k] ? [`${counts[k]} ${status.name}`] : []).join(", ");
  const [kind, mark] = bad ? ["bad", `✗ ${bad}`] : aside === all ? ["aside", of("not-exercised") ? "○" : "∅"]
    : of("known") ? ["known", "K"] : ["pass", of("within-bound") && !of("exact") ? "≈" : "✓"];
  return h("a", { class: `cell ${kind}${part}`, href, tabindex: "-1", title: `${words}: ${told}`, "aria-label": `${words}: ${told}` }, mark);
}
function matrix() {
  const counts = new Map();
  for (let i = 0; i < N; i++) {
    const key = `${C.owner[i]}\n${D.cases[C.case[i]].family}`;
    if (!counts.has(key)) counts.set(key, D.statuses.map(() => 0));
    counts.get(key)[C.status[i]]++;
  }
  for (const [operation, owners] of operations()) {
    const families = [...new Set(D.cases.filter((one) => one.operation === operation).map((one) => one.family))];
    const rows = owners.map((o) => {
      const owner = D.owners[o];
      return h("tr", {}, h("th", { scope: "row", title: ownerName(owner) }, labelOf(owner, true)), families.map((family) => {
        const here = counts.get(`${o}\n${family}`);
        return h("td", {}, here && cell(here, `#?${new URLSearchParams({ owner: ownerKey(owner), family })}`, `${labelOf(owner, true)}, ${family}`));
      }));
    });
    const table = h("table", { class: "matrix" }, h("caption", {}, operation.replace("_", " ")),
      h("thead", {}, h("tr", {}, h("td", {}), families.map((family) => h("th", { scope: "col" }, h("span", {}, family))))), h("tbody", {}, rows));
    const first = table.querySelector("a.cell");
    if (first) first.tabIndex = 0;
    table.addEventListener("keydown", walk);
    by("matrix").append(h("div", { class: "scroll", role: "region", "aria-label": `Matrix of ${operation}` }, table));
  }
}
const ownerKey = (o) => whole(ownerName(o) + (o.run ? ` ${runLabel(o)}` : ""));
const isBad = D.owners.map(() => false);
for (let i = 0; i < N; i++) isBad[C.owner[i]] ||= statusOf(i).bad;
function walk(event) {
  const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
  const from = event.target.closest("td");
  if (!step || !from) return;
  event.preventDefault();
  const rows = [...event.currentTarget.tBodies[0].rows];
  let row = rows.indexOf(from.parentNode), column = from.cellIndex;
  while ((row += step[0]) >= 0 && row < rows.length && (column += step[1]) > 0 && column < rows[row].cells.length) {
    const to = rows[row].cells[column].firstChild;
    if (!to) continue;
    event.target.tabIndex = -1;
    to.tabIndex = 0;
    return to.focus();
  }
}

// The list, and what it is filtered by; the address of the page holds the filters.
const form = by("filters"), STEP = 100;
let limit = STEP, texts = null;
function options(name, choices) {
  form.elements[name].replaceChildren(h("option", { value: "" }, "all"), ...choices.map(([value, words]) => h("option", { value }, words)));
}
function prepareFilters() {
  const used = D.statuses.filter((_, k) => C.status.includes(k));
  options("status", [...(used.some((one) => one.bad) ? [["bad", "✗ not conforming"]] : []), ...used.map((one) => [one.name, `${one.sign} ${one.name}`])]);
  options("owner", D.owners.map(ownerKey).sort(compare).map((one) => [one, one]));
  options("family", [...new Set(D.cases.map((one) => one.family))].sort(compare).map((one) => [one, one]));
  options("mistake", [...new Set(D.mistakes.flatMap(([, fits]) => fits))].map((one) => [one, one]));
}
function filter() {
  const wanted = Object.fromEntries(new FormData(form)), q = wanted.q.trim().toLowerCase();
  if (q && !texts) texts = order.map((_, i) => `${idOf(i)}\n${D.reasons[C.reason[i]]}`.toLowerCase());
  // A finding names an owner without its run: then all runs are meant.
  const owners = D.owners.map((o) => !wanted.owner || ownerKey(o) === wanted.owner || whole(ownerName(o)) === wanted.owner);
  const families = D.cases.map((one) => !wanted.family || one.family === wanted.family);
  const statuses = D.statuses.map((one) => !wanted.status || (wanted.status === "bad" ? one.bad : one.name === wanted.status));
  const mistakes = D.mistakes.map(([, fits]) => !wanted.mistake || fits.includes(wanted.mistake));
  listed = order.filter((i) => statuses[C.status[i]] && owners[C.owner[i]] && families[C.case[i]] && mistakes[C.mistake[i]] && (!q || texts[i].includes(q)));
  limit = STEP;
  list();
}
function list() {
  by("shown").textContent = `${listed.length} of ${N} checks${listed.length > limit ? `, the first ${limit} shown` : ""}`;
  by("list").replaceChildren(...listed.slice(0, limit).map((i) => {
    const status = statusOf(i), run = runLabel(D.owners[C.owner[i]]);
    return h("li", {}, h("a", { href: linkOf(i) }, statusTag(status), h("span", { class: "id" }, h("bdi", {}, idOf(i)), run && ` ${run}`),
      h("span", { class: "why" }, h("bdi", {}, D.reasons[C.reason[i]].slice(0, 300))), h("span", { class: "time" }, secondsOf(C.seconds[i]))));
  }));
  by("more").hidden = listed.length <= limit;
}
function address() {
  const wanted = new URLSearchParams([...new FormData(form)].filter(([, value]) => value));
  history.replaceState(null, "", String(wanted) ? `#?${wanted}` : "#");
  routed = location.hash;
}
form.addEventListener("input", () => { address(); filter(); });
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("reset", () => setTimeout(() => { address(); filter(); }));
by("more").addEventListener("click", () => { limit += 5 * STEP; list(); });

// Pictures.
const hue = (group, groups) => `hsl(${(25 + 360 * group / Math.max(groups, 1)) % 360} 70% 68%)`;
function permutation(title, moved, right, groups) {
  const count = moved.length, w = Math.max(9, Math.min(30, 540 / count)), size = count / groups, H = 118;
  const tone = (channel) => hue(Math.floor(channel / size), groups);
  const place = (k) => k * w + w / 2, label = (k, y, text) => w > 16 && s("text", { x: place(k), y, "font-size": "10" }, text);
  const wrong = moved.filter((source, k) => source !== right[k]).length;
  return h("figure", {}, h("figcaption", {}, `${title}${moved === right ? "" : `: ${wrong} of ${count} channels stand wrong`}`),
    s("svg", { class: "permutation", viewBox: `0 0 ${count * w} ${H + 14}`, width: count * w, role: "img", "aria-label": `${title}: output channels hold input channels ${moved.join(" ")}` },
      moved.map((source, k) => s("path", { d: `M${place(source)} 20C${place(source)} 60 ${place(k)} 55 ${place(k)} ${H - 20}`, stroke: tone(source) })),
      moved.map((_, k) => [s("rect", { x: k * w, y: 0, width: w, height: 20, fill: tone(k) }), label(k, 14, k)]),
      moved.map((source, k) => [s("rect", { x: k * w, y: H - 20, width: w, height: 20, fill: tone(source) }), label(k, H - 6, source),
        source !== right[k] && s("text", { class: "off", x: place(k), y: H + 11, "font-size": "10" }, "✗")])));
}
function weights(shards, should, is) {
  const most = Math.max(...should, ...(is || []).filter(Number.isFinite), 1e-9), H = 74;
  let at = 0;
  return shards.map((ranks, k) => {
    const bars = [];
    let x = 4;
    ranks.forEach((count, rank) => {
      bars.push(s("text", { x, y: H + 14, "font-size": "10" }, `rank ${rank}`));
      for (let sample = 0; sample < count; sample++, at++, x += 20) {
        const good = should[at] / most * H, got = is ? Math.max(0, is[at]) / most * H : good;
        const off = is && Math.abs(is[at] - should[at]) > 1e-5 * Math.abs(should[at]);
        bars.push(s("rect", { class: `is${off ? " off" : ""}`, x: x + 1, y: H - got, width: 16, height: got }, s("title", {}, `sample ${sample} of rank ${rank}: ${is ? is[at] : should[at]}, right is ${should[at]}`)),
          s("rect", { class: "should", x: x + .5, y: H - good, width: 17, height: good }));
      }
      x += Math.max(14, 46 - 20 * count);
    });
    return h("figure", {}, h("figcaption", {}, `How much each sample counts, micro-batch ${k}${is ? ": outlined as it should, filled as it does" : ""}`),
      s("svg", { class: "weights", viewBox: `0 0 ${x} ${H + 20}`, width: x, role: "img", "aria-label": `Weight of each sample in micro-batch ${k}` }, bars, s("line", { class: "axis", x1: 0, x2: x, y1: H, y2: H })));
  });
}
function ratioBar(ratio) {
  const x = (value) => 20 + 480 * Math.min(1, Math.max(0, (Math.log10(value) + 6) / 9));
  return h("figure", {}, h("figcaption", {}, `Error ÷ bound: ${numberOf(ratio)}`),
    s("svg", { viewBox: "0 0 520 46", width: 520, role: "img", "aria-label": `error ÷ bound is ${ratio}` },
      s("line", { class: "axis", x1: 20, x2: 500, y1: 20, y2: 20 }), [-6, -4, -2, 0, 2].map((power) => s("text", { x: x(10 ** power), y: 42, "text-anchor": "middle" }, power ? `1e${power}` : "the bound")),
      s("line", { class: "limit", x1: x(1), x2: x(1), y1: 4, y2: 30 }), s("circle", { cx: x(ratio > 0 ? ratio : 1e-9), cy: 20, r: 7, fill: ratio > 1 ? "var(--bad)" : "var(--pass)" })));
}
function pictures(one, answer, promise, ratio) {
  const found = [], groups = Number(one.parameters.groups) || 1;
  if (one.permutation) found.push(permutation("Right: input channels above, output below", one.permutation, one.permutation, groups));
  if (one.permutation && answer.permutation) found.push(permutation("Given", answer.permutation, one.permutation, groups));
  if (one.weights && one.weights[promise]) found.push(weights(one.parameters.shards, one.weights[promise], answer.weights));
  if (one.photographs) found.push(...["Before the shuffle", "After it, as is right"].map((words, k) => photograph(words, one.photographs[k])));
  if (answer.photographs) found.push(photograph("As it was given", answer.photographs));
  if (typeof ratio === "number") found.push(ratioBar(ratio));
  return found.flat();
}
const photograph = (words, src) => h("figure", {}, h("figcaption", {}, words), h("img", { src, alt: `${words}: four photographs of three channels each` }));

// One check, in words and pictures.
const section = (title, ...children) => [h("h2", {}, title), ...children];
const shellWord = (word) => /^[A-Za-z0-9@%+=:,.\/_-]+$/.test(word) ? word : `'${word.replaceAll("'", `'"'"'`)}'`;
function rerun(id) {
  const line = D.rerun[0] + shellWord(id) + D.rerun[2], code = h("code", {}, line);
  const button = h("button", { type: "button", onclick: async () => {
    try { await navigator.clipboard.writeText(line); } catch {
      getSelection().selectAllChildren(code);
      if (!document.execCommand("copy")) return void (button.textContent = "Selected: press Ctrl-C");
    }
    button.textContent = "Copied";
  } }, "Copy");
  return h("div", { class: "rerun" }, code, button);
}
const row = (head, ...cells) => h("tr", {}, h("th", { scope: "row" }, head), cells);
const value = (text, kind, label) => h("td", { class: `v ${kind || ""}`, "data-label": label }, text);
function parametersOf(one) {
  const told = (v) => (typeof v === "object" ? JSON.stringify(v) : String(v));
  return Object.entries(one.parameters).map(([name, v]) => h("tr", {}, h("th", { scope: "row" }, name), h("td", { class: "v", colspan: 2 }, told(v))));
}
function arraysOf(one, promise) {
  const promised = (name) => !promise || !/^(rank_mean|sample_mean|rank_sum)\//.test(name) || name.startsWith(`${promise}/`);
  return one.arrays.filter(([part, name]) => part === "input" || promised(name)).map(([part, name, dtype, shape, head]) =>
    row(`${part === "input" ? "in" : "right"}: ${part === "input" ? name : name.replace(`${promise}/`, "")}`, value(`${dtype} (${shape.join(", ")})`), value(head)));
}
function sources(owner) {
  const key = `${owner.operation}/${owner.implementation}`, mine = D.implementations[key];
  if (!mine || !mine.source) return [h("p", {}, "Its source is not here: the adapter's file is not where the run had it.")];
  const others = Object.entries(D.implementations).filter(([name, one]) => name !== key && one.source && name.startsWith(`${owner.operation}/`));
  const place = h("span", { class: "from" }), pre = h("pre", { tabindex: "0" });
  const show = (name) => { place.textContent = D.implementations[name] ? ` ${seen(D.implementations[name].place)}` : ""; pre.textContent = D.implementations[name] ? seen(D.implementations[name].source) : ""; };
  const choice = h("select", { "aria-label": "The implementation beside it", onchange: () => show(choice.value) }, others.map(([name]) => h("option", { value: name, selected: name === mine.sibling }, name)));
  show(mine.sibling);
  return [h("div", { class: "sources" }, h("div", {}, h("b", {}, key), h("span", { class: "from" }, ` ${mine.place}`), h("pre", { tabindex: "0" }, mine.source)), others.length > 0 && h("div", {}, choice, place, pre))];
}
function clausesOf(one) {
  return one.clauses.map((id) => {
    const [words, from, verdict, article, english] = D.clauses[id] || ["a clause that this version of the suite does not have", "", "", "", ""];
    return h("div", { class: "clause" }, h("p", {}, h("b", {}, id), ` ${words}`), h("p", { class: "from" }, from, verdict === "contradicted" && " – contradicted: it is not so"),
      article && h("p", { class: "from" }, "The article: ", h("q", { lang: "zh" }, article), ` In English: ${english}`));
  });
}
function othersOf(i) {
  const found = [];
  for (let j = 0; j < N; j++) if (j !== i && C.case[j] === C.case[i]) {
    const same = D.answers[C.answer[i]] && D.answers[C.answer[j]] ? (C.answer[i] === C.answer[j] ? " =" : " ≠") : "", owner = D.owners[C.owner[j]];
    found.push(h("li", {}, sign(statusOf(j)), h("a", { href: linkOf(j), title: `${statusOf(j).name}${same && (same === " =" ? ", the same bits" : ", other bits")}` }, ` ${labelOf(owner, true)}`), same));
  }
  return found;
}
// What was read off a wrong answer, a sentence each; where nothing was, the reason.
const sentencesOf = (i) => (D.evidence[i] || [C.reason[i]]).map((place) => D.reasons[place]).filter(Boolean);
function detail(i) {
  const status = statusOf(i), owner = D.owners[C.owner[i]], one = D.cases[C.case[i]], answer = D.remade[i] || {}, ratio = C.ratio[i], sentences = sentencesOf(i);
  const [mistake, fits] = namesOf(i), id = idOf(i), about = D.implementations[`${owner.operation}/${owner.implementation}`] || {};
  const known = mistake && D.catalogue[mistake], where = listed.indexOf(i);
  const turn = (to, words) => listed[to] !== undefined && where >= 0 && h("a", { href: linkOf(listed[to]), rel: to < where ? "prev" : "next" }, words);
  const drawn = pictures(one, answer, owner.promise, ratio);
  by("check").replaceChildren(...[
    h("nav", { class: "turn", "aria-label": "Checks" }, h("a", { href: back, id: "back" }, "↑ All checks"), turn(where - 1, "← Before"), turn(where + 1, "Next →"), where >= 0 && h("span", { class: "where" }, `${where + 1} of ${listed.length} listed`)),
    h("h1", {}, statusTag(status, `${status.name}: ${status.words}`), h("bdi", { class: "id" }, id), runLabel(owner) && ` in ${runLabel(owner)}`),
    h("p", { class: "lead" }, `${owner.implementation}${about.framework ? ` (${about.framework}, promises ${about.promise})` : ""} was asked on ${owner.device}: ${one.about}`),
    h("div", { class: `verdict s-${status.name}` },
      known && h("p", {}, h("b", {}, `Looks like ${mistake}: `), known[0], ". "), known && h("p", {}, h("b", {}, "Write instead: "), known[1]), known && known[2] && h("p", {}, h("b", {}, "Seen: "), known[2]),
      !mistake && fits.length > 1 && h("p", {}, h("b", {}, `Could be ${fits.join(" or ")}`), ": this case cannot tell them apart."),
      sentences.map((sentence) => h("p", {}, sentence)), sentences.length === 0 && !status.bad && h("p", {}, `The answer is ${status.words}.`)),
    section("Run it again", rerun(id)),
    drawn.length > 0 && section("In pictures", h("div", { class: "pictures" }, drawn)),
    answer.arrays && answer.arrays.length > 0 && section("Right and given", h("p", {}, answer.proved ? `The answer, made again with the code of ${answer.mistake}: its SHA-256 is the recorded one.` : `As ${answer.mistake} answers; the recorded answer fits it, and is not the same bits.`),
      h("div", { class: "wide", tabindex: "0" }, h("table", { class: "plain stack" }, h("thead", {}, h("tr", {}, ["array", "right, from the first wrong element", "given", "in words"].map((t) => h("th", { scope: "col" }, t)))),
        h("tbody", {}, answer.arrays.map(([name, right, got, words]) => row(name, value(right, "", "right"), value(got, "given", "given"), value(words))))))),
    section("What was asked", one.refusal && h("p", {}, `Right is a ${one.refusal[0]}${one.refusal[1] ? ` with the words “${one.refusal[1]}”` : ""}.`), !D.goldens && h("p", {}, "The goldens that are here are not those of the run: inputs and right answers are not shown."), one.hashed && h("p", {}, "A large case: its arrays are made when it is asked, and compared by SHA-256."),
      h("div", { class: "wide", tabindex: "0" }, h("table", { class: "plain" }, h("caption", { class: "from" }, `${one.name}, of the family ${one.family}${one.tier ? `, ${one.tier}` : ""}`), h("tbody", {}, parametersOf(one), arraysOf(one, owner.promise)))),
      h("p", { class: "from" }, D.answers[C.answer[i]] ? `SHA-256 of the answer: ${D.answers[C.answer[i]]}… · ` : "", `${secondsOf(C.seconds[i])}`)),
    section("What is promised", clausesOf(one)),
    section("Written side by side", sources(owner)),
    section("The same case, asked of others", h("ul", { class: "others" }, othersOf(i)), h("p", { class: "from" }, "= the same bits as here, ≠ other bits")),
  ].flat(9).filter(Boolean));
}

// Who gave the same bits as whom.
function agreement(place) {
  const cases = new Map();
  for (let i = 0; i < N; i++) if (D.answers[C.answer[i]] && statusOf(i).name !== "within-bound") {
    const promise = D.cases[C.case[i]].operation === "gradient_mean" ? D.owners[C.owner[i]].promise : "", key = `${C.case[i]} ${promise}`;
    cases.has(key) ? cases.get(key).push(i) : cases.set(key, [i]);
  }
  const pairs = D.owners.map(() => []);
  for (const members of cases.values()) for (const i of members) for (const j of members) {
    const pair = (pairs[C.owner[i]][C.owner[j]] ||= [0, 0]);
    pair[C.answer[i] === C.answer[j] ? 0 : 1]++;
  }
  for (const [operation, owners] of operations()) {
    const rows = owners.map((a, n) => h("tr", {}, h("th", { scope: "row" }, `${n + 1} ${labelOf(D.owners[a], true)}`), owners.map((b) => {
      const pair = pairs[a][b], words = pair && `${labelOf(D.owners[a], true)} and ${labelOf(D.owners[b], true)}: ${pair[0]} the same bits, ${pair[1]} other bits`;
      return h("td", { class: a === b ? "self" : !pair ? "" : pair[1] ? "apart" : "same", title: words }, a === b || !pair ? "" : pair[1] || "=");
    })));
    place.append(h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `Agreement of ${operation}` }, h("table", { class: "matrix pairs" }, h("caption", {}, operation.replace("_", " ")),
      h("thead", {}, h("tr", {}, h("td", {}), owners.map((_, n) => h("th", { scope: "col" }, n + 1)))), h("tbody", {}, rows))));
  }
  place.append(h("p", { class: "from" }, "= the same bits in every case that both answered; a number: so many cases with other bits; empty: no case that both owe the same bits."));
}
by("agreement").addEventListener("toggle", () => { const place = $("#agreement > div"); if (!place.firstChild) agreement(place); });

// Which part of the page is shown: the address says.
let back = "#", last = null, routed = null, title = document.title;
function route() {
  // Two quick keys leave two events for one address: a second drawing would take the focus away.
  if (location.hash === routed) return;
  routed = location.hash;
  let hash = location.hash.slice(1), i;
  if (hash && !hash.startsWith("?")) {
    try { hash = decodeURIComponent(hash); } catch { /* an id with a bare % */ }
    i = find(hash);
  }
  const isCheck = i !== undefined, left = isCheck ? null : last;
  last = isCheck ? i : null;
  $("header.top").hidden = by("overview").hidden = isCheck;
  by("check").hidden = !isCheck;
  document.title = isCheck ? `${statusOf(i).sign} ${seen(hash)}` : title;
  if (isCheck) {
    detail(i);
    scrollTo(0, 0);
    return by("check").focus({ preventScroll: true });
  }
  if (hash && !hash.startsWith("?") && !by(hash)) {
    filter();
    by("shown").textContent = `This run has no check ${seen(hash)}.`;
    return by("checks").scrollIntoView();
  }
  const wanted = new URLSearchParams(hash.startsWith("?") ? hash.slice(1) : "");
  if (!hash || hash.startsWith("?")) {
    back = `#${hash}`;
    for (const name of ["q", "status", "owner", "family", "mistake"]) {
      const field = form.elements[name], value = wanted.get(name) || "";
      if (field.options && value && ![...field.options].some((option) => option.value === value)) field.append(h("option", { value }, value));
      field.value = value;
    }
    filter();
  } else if (!by("list").firstChild) filter();
  // Who comes back from a check goes on where it stands in the list.
  const place = left === null ? null : by("list").children[listed.indexOf(left)];
  if (place) place.firstChild.focus();
  else if (String(wanted)) by("checks").scrollIntoView();
  else if (by(hash)) { by(hash).scrollIntoView(); by(hash).focus({ preventScroll: true }); }
}
addEventListener("hashchange", route);
addEventListener("keydown", (event) => {
  if (event.target.matches("input, select, textarea, pre") || event.ctrlKey || event.metaKey || event.altKey) return;
  const onCheck = !by("check").hidden, to = { ArrowLeft: "prev", ArrowRight: "next" }[event.key];
  if (event.key === "/") { event.preventDefault(); if (onCheck) location.hash = back.slice(1); by("overview").hidden || form.elements.q.focus(); }
  else if (event.key === "Escape" && onCheck) location.hash = back;
  else if (to && onCheck) by("check").querySelector(`a[rel=${to}]`)?.click();
});
prepareFilters();
matrix();
route();
document.documentElement.dataset.ready = "yes";
