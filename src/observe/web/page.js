"use strict";
// Takes the parts that have changed from /live, and lets ages go on. All markup comes escaped from the server.
(() => {
  const main = document.getElementById("main");
  const live = document.getElementById("live");
  // A daemon that hangs says nothing; it gives a sign of life every 5 s.
  const SILENCE = 12000;
  let ahead = Date.now() - Number(main.dataset.now);
  let heard = Date.now();

  function age(ms) {
    const s = Math.max(0, Math.floor(ms / 1000));
    if (s < 60) return s + " s";
    if (s < 3600) return Math.floor(s / 60) + " min " + (s % 60) + " s";
    if (s < 86400) return Math.floor(s / 3600) + " h " + (Math.floor(s / 60) % 60) + " min";
    return Math.floor(s / 86400) + " d " + (Math.floor(s / 3600) % 24) + " h";
  }

  function tick() {
    const now = Date.now() - ahead;
    for (const time of document.querySelectorAll("time[data-since]")) {
      const text = age(now - Number(time.dataset.since));
      if (time.textContent !== text) time.textContent = text;
    }
    const silent = Date.now() - heard;
    if (silent > SILENCE) lost("not live: nothing was heard for " + age(silent) + "; what is shown is from then");
  }

  function lost(why) {
    live.className = "live lost";
    live.textContent = why;
    document.documentElement.classList.add("stale");
  }

  function hear(event) {
    heard = Date.now();
    if (event.lastEventId) ahead = heard - Number(event.lastEventId);
    live.className = "live on";
    live.textContent = "live";
    document.documentElement.classList.remove("stale");
  }

  function replace(markup) {
    const template = document.createElement("template");
    template.innerHTML = markup;
    for (const part of [...template.content.children]) {
      const old = document.getElementById(part.id);
      if (old) old.replaceWith(part);
    }
  }

  const source = new EventSource("live");
  source.addEventListener("whole", (event) => { hear(event); main.innerHTML = event.data; tick(); });
  source.addEventListener("parts", (event) => { hear(event); replace(event.data); tick(); });
  source.addEventListener("title", (event) => { document.title = event.data; });
  source.addEventListener("beat", (event) => { hear(event); tick(); });
  source.addEventListener("trouble", (event) => { heard = Date.now(); lost("not live: " + event.data); });
  source.addEventListener("error", () => lost("not live: the daemon does not answer; trying again"));
  setInterval(tick, 1000);
})();
