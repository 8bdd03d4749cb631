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
  const open = (address) => {
    const step = steps.get(address);
    if (!step) return;
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
    panel.showModal();
  };
  const close = () => panel.close();
  panel.addEventListener("click", (event) => { if (event.target === panel) close(); });
  $("close").addEventListener("click", close);
  const chosen = (event) => {
    const node = event.target.closest && event.target.closest("[data-step]");
    return node ? node.dataset.step : null;
  };
  document.addEventListener("click", (event) => {
    if (event.target.closest("summary, a, button, input, label, dialog")) return;
    const address = chosen(event);
    if (address) open(address);
  });

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
    for (const [seq, at, type, step, detail] of data.events) {
      const slash = type.indexOf("/"), head = type.slice(0, slash), tier = head.startsWith("tier") ? head : "other";
      if (!on.has(tier)) continue;
      if (text && !(type + " " + step + " " + detail).toLowerCase().includes(text)) continue;
      found += 1;
      if (found > limit) continue;
      const row = make("tr");
      if (steps.has(step)) { row.dataset.step = step; row.tabIndex = 0; }
      row.append(make("td", seq, "n"), make("td", at, "n"), make("td", type, "mono nowrap"), make("td", step, "mono"), make("td", detail));
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
    if (panel.open) return;
    if (event.key === "/") { event.preventDefault(); stepText.focus(); }
    else if (event.key === "e") { event.preventDefault(); eventText.focus(); }
    else if (event.key === "n" && failed.length) { open(failed[next % failed.length]); next += 1; }
    else if (event.key === "j" || event.key === "k" || event.key === "ArrowDown" || event.key === "ArrowUp") {
      const here = document.activeElement.closest("[data-step]");
      if (!here) return;
      const all = [...here.parentNode.querySelectorAll(":scope > [data-step]:not([hidden])")];
      const to = all[all.indexOf(here) + (event.key === "j" || event.key === "ArrowDown" ? 1 : -1)];
      if (to) { event.preventDefault(); to.focus(); }
    }
  });
})();
