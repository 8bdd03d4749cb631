"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const steps = new Map(data.steps.map((step) => [step.address, step]));
  const $ = (id) => document.getElementById(id);
  // Everything that others wrote becomes text nodes; nothing is ever parsed as HTML.
  const make = (tag, text, cls) => {
    const node = document.createElement(tag);
    if (text !== undefined && text !== null) node.textContent = text;
    if (cls) node.className = cls;
    return node;
  };

  // One step, in a dialog.
  const panel = $("step"), body = $("step-body");
  const choose = (address) => {
    for (const node of document.querySelectorAll(".chosen")) node.classList.remove("chosen");
    for (const node of document.querySelectorAll("[data-step]"))
      if (node.dataset.step === address) node.classList.add("chosen");
  };
  let here = null;
  const open = (address) => {
    const step = steps.get(address);
    if (!step) return;
    here = step.address;
    choose(address);
    $("step-name").textContent = address;
    body.replaceChildren();
    const line = make("p");
    line.append(make("b", step.status, step.status), make("span", " " + step.about, "dim"));
    body.append(line);
    if (step.reason) body.append(make("p", step.reason));
    for (const [title, text] of step.texts) {
      body.append(make("h3", title), make("pre", text));
    }
    $("to-prompts").hidden = !step.asked;
    if (!panel.open) panel.showModal();
    $("close").focus();
    panel.scrollTop = 0;
  };
  const close = () => panel.close();
  panel.addEventListener("click", (event) => { if (event.target === panel) close(); });
  $("close").addEventListener("click", close);
  const calls = [...document.querySelectorAll("[data-call]")];
  $("to-prompts").addEventListener("click", () => {
    const own = calls.filter((call) => call.dataset.call === here);
    close();
    for (const call of own) call.open = true;
    if (own.length) { own[0].scrollIntoView({ block: "start" }); own[0].querySelector("summary").focus({ preventScroll: true }); }
  });
  $("to-events").addEventListener("click", () => {
    close();
    eventText.value = here;
    eventText.dispatchEvent(new Event("input"));
    $("events").scrollIntoView();
    eventText.focus({ preventScroll: true });
  });
  const every = $("open-calls");
  if (every) every.addEventListener("click", () => {
    const all = calls.every((call) => call.open);
    for (const call of calls) call.open = !all;
  });
  for (const call of calls) call.addEventListener("toggle", () => {
    every.textContent = calls.every((one) => one.open) ? "Close all" : "Open all";
  });
  const chosen = (event) => {
    const node = event.target.closest && event.target.closest("[data-step]");
    return node ? node.dataset.step : null;
  };
  document.addEventListener("click", (event) => {
    if (event.target.closest("summary, a, button, input, label, dialog")) return;
    const address = chosen(event);
    if (address) open(address);
  });

  // The graph: what a step is tied to, as long as it is pointed at; all of it, or as large as it can be read.
  const graph = document.querySelector("svg.graph"), fit = $("fit");
  if (graph) {
    const edges = [...graph.querySelectorAll(".edge")];
    const light = (address) => {
      for (const edge of edges)
        edge.classList.toggle("lit", address !== null && (edge.dataset.from === address || edge.dataset.to === address));
    };
    for (const kind of ["pointerover", "focusin"]) graph.addEventListener(kind, (event) => light(chosen(event)));
    for (const kind of ["pointerleave", "focusout"]) graph.addEventListener(kind, () => light(null));
    const frame = graph.parentNode;
    const first = graph.querySelector(".node.failed") || graph.querySelector(".node.suspended");
    const seek = () => {
      if (!first) return;
      const box = first.getBoundingClientRect(), around = frame.getBoundingClientRect();
      frame.scrollTop += box.top + box.height / 2 - around.top - frame.clientHeight / 2;
      frame.scrollLeft += box.left + box.width / 2 - around.left - frame.clientWidth / 2;
    };
    seek();
    fit.hidden = frame.scrollHeight <= frame.clientHeight && frame.scrollWidth <= frame.clientWidth;
    fit.addEventListener("click", () => {
      const whole = graph.classList.toggle("whole");
      fit.textContent = whole ? "Full size" : "Fit the window";
      if (!whole) seek();
    });
  }

  // Steps by text and status.
  const table = $("steps-table"), stepText = $("step-filter"), statusBoxes = [...document.querySelectorAll("[data-status]")];
  const filterSteps = () => {
    const text = stepText.value.toLowerCase();
    const on = new Set(statusBoxes.filter((box) => box.checked).map((box) => box.dataset.status));
    let shown = 0;
    for (const row of table.tBodies[0].rows) {
      const fits = on.has(row.dataset.is) && row.textContent.toLowerCase().includes(text);
      row.hidden = !fits;
      shown += fits;
    }
    $("steps-shown").textContent = shown + " of " + table.tBodies[0].rows.length;
  };
  stepText.addEventListener("input", filterSteps);
  for (const box of statusBoxes) box.addEventListener("change", filterSteps);
  filterSteps();

  // Events by text and tier.
  const list = $("events-body"), eventText = $("event-filter"), tierBoxes = [...document.querySelectorAll("[data-tier]")];
  let limit = 300;
  const filterEvents = () => {
    const text = eventText.value.toLowerCase();
    const on = new Set(tierBoxes.filter((box) => box.checked).map((box) => box.dataset.tier));
    list.replaceChildren();
    let found = 0;
    for (const [seq, at, kind, place, detail] of data.events) {
      const type = data.types[kind], step = data.places[place];
      const slash = type.indexOf("/"), head = type.slice(0, slash), tier = head.startsWith("tier") ? head : "other";
      if (!on.has(tier)) continue;
      if (text && !(type + " " + step + " " + detail).toLowerCase().includes(text)) continue;
      found += 1;
      if (found > limit) continue;
      const row = make("tr");
      if (steps.has(step)) { row.dataset.step = step; row.tabIndex = 0; }
      row.append(make("td", seq, "n wide"), make("td", at, "n"), make("td", type, "mono nowrap"));
      row.append(make("td", step, "mono step"), make("td", detail, "wide"));
      list.append(row);
    }
    $("events-shown").textContent = Math.min(found, limit) + " of " + found;
    $("more").hidden = found <= limit;
  };
  eventText.addEventListener("input", () => { limit = 300; filterEvents(); });
  for (const box of tierBoxes) box.addEventListener("change", filterEvents);
  $("more").addEventListener("click", () => { limit += 1000; filterEvents(); });
  filterEvents();

  // The keyboard.
  const failed = data.steps.filter((step) => step.status === "failed").map((step) => step.address);
  let next = 0;
  document.addEventListener("keydown", (event) => {
    const typing = event.target.matches && event.target.matches("input");
    if (event.key === "Escape" && typing) { event.target.blur(); return; }
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    if ((event.key === "Enter" || event.key === " ") && chosen(event) && !panel.open) {
      event.preventDefault(); open(chosen(event)); return;
    }
    if (event.key === "n" && failed.length) { open(failed[next % failed.length]); next += 1; return; }
    if (panel.open) return;
    if (event.key === "/") { event.preventDefault(); stepText.focus(); }
    else if (event.key === "e") { event.preventDefault(); eventText.focus(); }
    else if (event.key === "z" && fit && !fit.hidden) fit.click();
    else if (event.key === "j" || event.key === "k" || event.key === "ArrowDown" || event.key === "ArrowUp") {
      const here = document.activeElement.closest("[data-step]");
      if (!here) return;
      const all = [...here.parentNode.querySelectorAll(":scope > [data-step]:not([hidden])")];
      const to = all[all.indexOf(here) + (event.key === "j" || event.key === "ArrowDown" ? 1 : -1)];
      if (to) { event.preventDefault(); to.focus(); }
    }
  });
})();
