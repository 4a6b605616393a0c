// The search page. All that it shows it asks of the API; texts become nodes, never HTML.
"use strict";
const dark = matchMedia("(prefers-color-scheme: dark)");
let chosenTheme = null;
const showTheme = () => {
  document.documentElement.dataset.theme = chosenTheme ?? (dark.matches ? "dark" : "light");
};
dark.addEventListener("change", showTheme);
showTheme();

const $ = (name) => document.getElementById(name);
// What is looked for: images and uploads, images of others, the person who is marked.
const query = { uploads: [], same: [], not: [], person: null };
const chosen = { people: new Set(), images: new Set() };
let facets = {};
let opened = null; // The person shown in full.
let turn = 0; // Of the newest search: answers to earlier ones are not shown.
let browsed = 0;
let listed = 0;

function el(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-")) node.setAttribute(name, value);
    else node[name] = value;
  }
  node.append(...children);
  return node;
}

function say(words, bad = false) {
  $("status").textContent = words;
  $("status").classList.toggle("bad", bad);
}

async function ask(path, body, type = "application/json") {
  const options = { headers: { "X-Sicl-Jax": "1" } };
  if (body !== undefined) {
    options.method = "POST";
    options.body = type === "application/json" ? JSON.stringify(body) : body;
    options.headers["Content-Type"] = type;
  }
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    say("the server does not answer; is it still running?", true);
    throw new Error("no answer");
  }
  const found = await answer.json();
  if (answer.status === 401) $("login").showModal();
  if (!answer.ok) {
    say(found.error, true);
    throw new Error(found.error);
  }
  return found;
}

// Errors have been told by `ask`; whatever waits for it ends.
const quietly = (work) => (...given) => { Promise.resolve(work(...given)).catch((e) => { if (!$("status").classList.contains("bad")) say(String(e), true); }); };

const counted = (count, words = "image") => `${count} ${words}${count === 1 ? "" : "s"}`;
const picture = (image, size = "small") => `/api/pictures/${size}/${image.id}`;
const facts = (image) => [image.camera, image.folder, image.time.replace("T", " ").replace("Z", "")].filter(Boolean).join(" · ");

// ---- the gallery of results --------------------------------------------------------------

function tile(image, withMarks) {
  const button = el("button", { type: "button", className: "pic", "aria-label": `${image.name}, ${facts(image)}` });
  button.append(el("img", { src: picture(image), alt: "", loading: "lazy" }));
  button.image = image;
  button.addEventListener("click", quietly(() => startWith(image)));
  const words = el("small");
  if (image.similarity !== undefined) words.append(el("b", { textContent: image.similarity.toFixed(3) }), " ");
  words.append(facts(image));
  if (image.person) words.append(el("br"), `person ${image.person}`);
  const item = el("li", {}, button, words);
  if (withMarks) {
    const same = el("button", { type: "button", textContent: "✓", title: "the same person", "aria-label": `${image.name}: the same person` });
    const not = el("button", { type: "button", textContent: "✕", title: "not the same", "aria-label": `${image.name}: not the same` });
    same.addEventListener("click", quietly(() => mark(image, "same")));
    not.addEventListener("click", quietly(() => mark(image, "not_same")));
    item.append(el("div", { className: "marks" }, same, not));
  }
  return item;
}

function tabStops(list) { // One stop for Tab; arrows go from image to image.
  const buttons = [...list.querySelectorAll(".pic")];
  if (!buttons.some((b) => b.tabIndex === 0 && b.dataset.stop)) {
    buttons.forEach((b, i) => { b.tabIndex = i ? -1 : 0; b.dataset.stop = i ? "" : "1"; });
  }
  return buttons;
}

function focusOn(buttons, place) {
  const button = buttons[Math.max(0, Math.min(buttons.length - 1, place))];
  if (!button) return;
  buttons.forEach((b) => { b.tabIndex = b === button ? 0 : -1; b.dataset.stop = b === button ? "1" : ""; });
  button.focus();
}

function show(images, { more = false, append = false, marks = false } = {}) {
  const list = $("results");
  const place = [...list.querySelectorAll(".pic")].indexOf(document.activeElement);
  const tiles = images.map((image) => tile(image, marks));
  if (append) list.append(...tiles); else list.replaceChildren(...tiles);
  const buttons = tabStops(list);
  if (place >= 0 && !append) focusOn(buttons, place);
  $("more").hidden = !more;
}

// ---- search ------------------------------------------------------------------------------

function where() {
  const form = new FormData($("where"));
  const filters = {};
  for (const name of ["cameras", "folders", "modalities"]) if (form.get(name)) filters[name] = [form.get(name)];
  for (const name of ["since", "until"]) if (form.get(name)) filters[name] = Date.parse(`${form.get(name)}Z`) / 1000;
  const count = Object.keys(filters).length;
  $("filtered").textContent = count ? `(${count} set)` : "";
  return filters;
}

async function refresh() {
  const mine = ++turn;
  const isQuery = query.uploads.length + query.same.length > 0;
  showQuery(isQuery);
  if (!isQuery) return browse(false);
  const body = {
    same: query.same.map((i) => i.id), not_same: query.not.map((i) => i.id),
    uploads: query.uploads.map((u) => u.id), top: 60, where: where(),
  };
  const found = await ask("/api/search", body);
  if (mine !== turn) return;
  show(found.results, { marks: true });
  say(`${counted(found.results.length)}, nearest first${found.exact ? "" : "; the index is approximate"}`);
  $("hint").textContent = "The number is the cosine similarity to what is looked for. ✓ the same person, ✕ not the same: the order changes at once, and marks are kept.";
}

async function browse(append) {
  const mine = turn;
  if (!append) browsed = 0;
  const found = await ask("/api/images", { offset: browsed, top: 60, where: where() });
  if (mine !== turn) return;
  browsed += found.images.length;
  show(found.images, { more: browsed < found.total, append });
  say(counted(found.total));
  $("hint").textContent = "Choose an image to search with it.";
}

function showQuery(isQuery) {
  $("query").hidden = !isQuery;
  const strip = (images, label, undo) => images.map((image) => {
    const button = el("button", { type: "button", title: "take out", "aria-label": `take out ${label} ${image.name}` });
    button.append(el("img", { src: image.address ?? picture(image), alt: "" }));
    button.addEventListener("click", quietly(() => undo(image)));
    return el("li", {}, button);
  });
  $("same").replaceChildren(...strip(query.uploads, "upload", (u) => { query.uploads = query.uploads.filter((x) => x !== u); return refresh(); }), ...strip(query.same, "image", (i) => mark(i, null)));
  $("not").replaceChildren(...strip(query.not, "image", (i) => mark(i, null)));
  $("not-part").hidden = !query.not.length;
  $("who").textContent = query.person ? `kept as person ${query.person}` : "nothing marked yet";
  $("open-person").hidden = !query.person;
}

function reset() {
  query.uploads.forEach((u) => URL.revokeObjectURL(u.address));
  Object.assign(query, { uploads: [], same: [], not: [], person: null });
}

async function startWith(image) {
  reset();
  query.same = [image];
  if (image.person) return searchFor(image.person);
  await refresh();
  focusOn(tabStops($("results")), 0);
}

async function searchFor(number) {
  const person = await ask(`/api/people/${number}`);
  reset();
  Object.assign(query, { same: person.images, not: person.not_same, person: number });
  go("search");
  await refresh();
}

async function mark(image, how) {
  const without = (images) => images.filter((i) => i.id !== image.id);
  const shown = query.same.map((i) => i.id);
  const was = { ...query };
  query.same = without(query.same);
  query.not = without(query.not);
  if (how === "same") query.same = [...query.same, image];
  if (how === "not_same") query.not = [...query.not, image];
  if (how !== null || query.person) {
    try {
      const body = { images: [image.id], mark: how, shown };
      if (query.person) body.person = query.person;
      query.person = (await ask("/api/mark", body)).id;
    } catch (error) {
      Object.assign(query, was);
      throw error;
    }
  }
  await refresh();
}

async function upload(file) {
  if (!file || !file.type.startsWith("image/")) return say("this is no picture", true);
  say("looking at the photograph …");
  const modality = facets.needs_modality ? `?modality=${$("modality").value}` : "";
  const found = await ask(`/api/embed${modality}`, file, file.type);
  reset();
  query.uploads = [{ id: found.upload, name: file.name, address: URL.createObjectURL(file) }];
  go("search");
  await refresh();
  focusOn(tabStops($("results")), 0);
}

// ---- people ------------------------------------------------------------------------------

async function listPeople(append = false) {
  if (!append) { listed = 0; chosen.people.clear(); }
  const found = await ask("/api/people", { offset: listed, top: 40 });
  listed += found.people.length;
  const cards = found.people.map(card);
  if (append) $("cards").append(...cards); else $("cards").replaceChildren(...cards);
  $("more-people").hidden = listed >= found.total;
  $("merge").disabled = chosen.people.size < 2;
  say(found.total ? `${found.total} people` : "nobody yet: compute groups, or mark images while searching");
}

const title = (person) => `Person ${person.id}${person.name ? `: ${person.name}` : ""}`;

function card(person) {
  const box = el("input", { type: "checkbox", "aria-label": `choose ${title(person)}` });
  box.addEventListener("change", () => {
    if (box.checked) chosen.people.add(person.id); else chosen.people.delete(person.id);
    $("merge").disabled = chosen.people.size < 2;
  });
  const open = el("button", { type: "button", textContent: "Open", "aria-label": `open ${title(person)}` });
  open.addEventListener("click", quietly(() => openPerson(person.id)));
  const tools = el("div", { className: "tools" }, el("label", {}, box, " choose"), open);
  if (!person.checked) {
    const right = el("button", { type: "button", textContent: "One person", "aria-label": `${title(person)} is one person` });
    right.addEventListener("click", quietly(async () => { await ask("/api/edit", { person: person.id, checked: true }); await listPeople(); }));
    tools.append(right);
  }
  if (person.like) {
    const join = el("button", { type: "button", textContent: `Is person ${person.like}`, "aria-label": `${title(person)} is person ${person.like}` });
    join.addEventListener("click", quietly(async () => { await ask("/api/merge", { people: [person.like, person.id] }); await listPeople(); }));
    tools.append(join);
  }
  const state = person.checked ? "checked" : `a guess, trust ${(person.trust ?? 0).toFixed(2)}${person.like ? `, perhaps person ${person.like}` : ""}`;
  const gone = person.gone ? `; ${person.gone} no longer in the index` : "";
  return el("article", { className: "cluster" },
    el("h3", { textContent: title(person) }), el("p", { textContent: `${counted(person.count)}, ${state}${gone}` }),
    el("ul", { className: "tiles" }, ...person.images.map((image) => el("li", {}, el("img", { src: picture(image), alt: image.name, title: `${image.name}\n${facts(image)}`, loading: "lazy" })))),
    tools);
}

async function openPerson(number) {
  showPerson(await ask(`/api/people/${number}`));
  go("person");
  $("person-title").focus();
}

function showPerson(person) {
  opened = person;
  chosen.images.clear();
  $("person-title").textContent = title(person);
  $("naming").elements.name.value = person.name;
  const members = person.images.map((image) => {
    const item = tile(image, false);
    const button = item.querySelector(".pic").cloneNode(true); // Chosen here, not searched with.
    item.querySelector(".pic").replaceWith(button);
    button.image = image;
    button.setAttribute("aria-pressed", "false");
    button.addEventListener("click", () => {
      const on = !chosen.images.delete(image.id);
      if (on) chosen.images.add(image.id);
      button.setAttribute("aria-pressed", String(on));
      choose();
    });
    return item;
  });
  $("members").replaceChildren(...members);
  tabStops($("members"));
  $("others").replaceChildren(...person.not_same.map((image) => tile(image, false)));
  $("others-part").hidden = !person.not_same.length;
  $("right").hidden = person.checked;
  choose();
  say(counted(person.count));
}

function choose() {
  const count = chosen.images.size;
  $("split").disabled = !count || count === opened.count;
  $("not-them").disabled = !count;
}

const change = (path, body) => quietly(async () => showPerson(await ask(path, { person: opened.id, ...body() })));

function go(part) {
  for (const name of ["search", "people", "person"]) $(name).hidden = name !== part;
  $("to-search").setAttribute("aria-pressed", String(part === "search"));
  $("to-people").setAttribute("aria-pressed", String(part !== "search"));
}

async function back() { // Whom is looked for may have been changed meanwhile, or forgotten.
  if (!$("search").hidden) return;
  go("search");
  if (query.person) {
    const person = await ask(`/api/people/${query.person}`).catch(reset);
    if (person) Object.assign(query, { same: person.images, not: person.not_same });
  }
  await refresh();
}

// ---- what the user does ------------------------------------------------------------------

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (event.target.matches("input:not([type=checkbox]):not([type=file]), select, textarea")) return;
  const pic = event.target.closest?.(".pic");
  const key = event.key;
  if (pic) {
    const buttons = [...pic.closest(".gallery").querySelectorAll(".pic")];
    const at = buttons.indexOf(pic);
    const across = Math.max(1, buttons.filter((b) => b.getBoundingClientRect().top === buttons[0].getBoundingClientRect().top).length);
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: across, ArrowUp: -across, Home: -at, End: buttons.length - 1 - at }[key];
    if (step !== undefined) { event.preventDefault(); return focusOn(buttons, at + step); }
    const markable = !$("search").hidden && !$("query").hidden;
    if (markable && key === "s") return quietly(mark)(pic.image, "same");
    if (markable && key === "n") return quietly(mark)(pic.image, "not_same");
    if (key === "o") return look(pic.image);
  }
  if (key === "/") { event.preventDefault(); quietly(back)(); $("file").focus(); }
  if (key === "f") { event.preventDefault(); quietly(back)(); $("filters").open = true; $("where").elements.cameras.focus(); }
  if (key === "g") { go("people"); quietly(listPeople)(); }
  if (key === "Escape") quietly(back)();
}

function look(image) {
  $("large").src = picture(image, "large");
  $("large").alt = image.name;
  $("large-facts").textContent = `${image.name}\n${facts(image)}`;
  $("look").showModal();
}

async function start() {
  facets = await ask("/api/facets");
  $("about").textContent = `${facets.images} images. A high similarity is a hint, never proof.`;
  $("kind").hidden = !facets.needs_modality;
  for (const name of ["cameras", "folders", "modalities"]) {
    const select = $("where").elements[name];
    select.replaceChildren(el("option", { value: "", textContent: "all" }), ...facets[name].map((value) => el("option", { value, textContent: value })));
    select.closest("label").hidden = facets[name].length < 2;
  }
  await refresh();
}

addEventListener("DOMContentLoaded", () => {
  if (!$("search")) return; // The API's page: it is given its colours alone.
  $("theme").addEventListener("click", () => {
    chosenTheme = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
    showTheme();
  });
  $("to-search").addEventListener("click", quietly(back));
  $("to-people").addEventListener("click", quietly(() => { go("people"); return listPeople(); }));
  $("file").addEventListener("change", quietly(async () => { await upload($("file").files[0]); $("file").value = ""; }));
  addEventListener("paste", quietly((event) => event.clipboardData?.files.length && upload(event.clipboardData.files[0])));
  addEventListener("dragover", (event) => { event.preventDefault(); $("drop").classList.add("over"); });
  addEventListener("dragleave", () => $("drop").classList.remove("over"));
  addEventListener("drop", quietly((event) => {
    event.preventDefault();
    $("drop").classList.remove("over");
    return upload(event.dataTransfer.files[0]);
  }));
  $("new").addEventListener("click", quietly(() => { reset(); return refresh(); }));
  $("open-person").addEventListener("click", quietly(() => openPerson(query.person)));
  $("where").addEventListener("change", quietly(refresh));
  $("where").addEventListener("submit", (event) => event.preventDefault());
  $("where").addEventListener("reset", () => setTimeout(quietly(refresh)));
  $("more").addEventListener("click", quietly(() => browse(true)));
  $("more-people").addEventListener("click", quietly(() => listPeople(true)));
  $("grouping").addEventListener("submit", quietly(async (event) => {
    event.preventDefault();
    say("computing groups …");
    const { eps, k1 } = $("grouping").elements;
    await ask("/api/group", { eps: Number(eps.value), k1: Number(k1.value) });
    await listPeople();
  }));
  $("merge").addEventListener("click", quietly(async () => { await ask("/api/merge", { people: [...chosen.people] }); await listPeople(); }));
  $("everybody").addEventListener("change", () => {
    const words = $("everybody").checked ? "?all=1" : "";
    $("csv").href = `/api/export/people.csv${words}`;
    $("zip").href = `/api/export/people.zip${words}`;
  });
  $("naming").addEventListener("submit", (event) => { event.preventDefault(); change("/api/edit", () => ({ name: $("naming").elements.name.value }))(); });
  $("right").addEventListener("click", change("/api/edit", () => ({ checked: true })));
  $("split").addEventListener("click", change("/api/split", () => ({ images: [...chosen.images] })));
  $("not-them").addEventListener("click", change("/api/mark", () => ({ images: [...chosen.images], mark: "not_same" })));
  $("search-them").addEventListener("click", quietly(() => searchFor(opened.id)));
  $("forget").addEventListener("click", quietly(async () => { await ask("/api/forget", { person: opened.id }); go("people"); await listPeople(); }));
  $("token-form").addEventListener("submit", quietly(async (event) => {
    event.preventDefault();
    await ask("/api/login", { token: $("token-form").elements.token.value });
    $("token-form").reset();
    $("login").close();
    await start();
  }));
  addEventListener("keydown", onKey);
  quietly(start)();
});
