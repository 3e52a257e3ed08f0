// Makes the page live. Without this file everything works, on reload.
"use strict";
(() => {
  const list = () => document.getElementById("list");

  // The server says times in UTC; here they become the reader's own.
  const localTimes = (within) => {
    const today = new Date().toDateString();
    for (const time of within.querySelectorAll("time[datetime]")) {
      const date = new Date(time.dateTime);
      if (Number.isNaN(date.getTime())) continue;
      const clock = { hour: "2-digit", minute: "2-digit" };
      const isToday = date.toDateString() === today;
      time.title = date.toLocaleString();
      time.textContent = "long" in time.dataset ? date.toLocaleString([], { dateStyle: "medium", timeStyle: "medium" })
        : isToday ? date.toLocaleTimeString([], clock)
        : date.toLocaleDateString([], { day: "numeric", month: "short" });
    }
  };

  const setTitle = (unread) => {
    const bare = document.title.replace(/^\(\d+\) /, "");
    document.title = unread > 0 ? `(${unread}) ${bare}` : bare;
  };

  // The list is fetched as the server writes it, so that there is one place that knows how a mail looks.
  let fetching = false;
  let wanted = null;
  const refresh = async (revision) => {
    wanted = revision;
    if (fetching) return;
    fetching = true;
    try {
      while (list().dataset.revision !== wanted) {
        const asked = wanted;
        const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
        if (!answer.ok) break;
        const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
        replace(fresh);
        if (wanted === asked) break;
      }
    } catch {
      // The server is away. The event stream comes back when it does, and with it the next refresh.
    } finally {
      fetching = false;
    }
  };

  const replace = (fresh) => {
    const focused = document.activeElement?.closest?.("#list a")?.getAttribute("href");
    const known = new Set(Array.from(list().querySelectorAll("li a"), (link) => link.getAttribute("href")));
    for (const selector of [".heading", "#list"]) {
      const next = fresh.querySelector(selector);
      const now = document.querySelector(selector);
      if (selector === ".heading") {
        // The status element itself stays: screen readers announce what changes within it.
        now.querySelector("#counts").replaceChildren(...document.adoptNode(next.querySelector("#counts")).childNodes);
        now.querySelector("form.clear")?.remove();
        const clear = next.querySelector("form.clear");
        if (clear) now.append(document.adoptNode(clear));
      } else {
        localTimes(next);
        for (const item of next.querySelectorAll("li")) {
          item.classList.toggle("new", !known.has(item.querySelector("a").getAttribute("href")));
        }
        now.replaceWith(document.adoptNode(next));
      }
    }
    if (focused) list().querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus();
  };

  localTimes(document);
  // A browser opens six connections to one server and no more, so only the list holds one, and
  // lets go of it when it is left: the browser may keep the page, and its connection, in memory.
  if (list()) {
    const live = document.getElementById("live");
    const events = new EventSource("/api/events");
    events.onopen = () => { live.hidden = false; };
    events.onerror = () => { live.hidden = true; };
    events.onmessage = (event) => {
      const { revision, unread } = JSON.parse(event.data);
      setTitle(unread);
      refresh(String(revision));
    };
    addEventListener("pagehide", () => events.close());
  }
  // A page that was kept in memory shows its old unread marks.
  addEventListener("pageshow", (event) => event.persisted && location.reload());
})();
