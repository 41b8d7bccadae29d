#include "replay/page_frame.h"

#include "replay/text.h"

namespace aurora {
namespace {

constexpr const char* kPageStyle = R"css(
:root { color-scheme: light dark; --page: #f4f7f9; --tile: #ffffff; --text: #16202c; --faint: #5c6b7a; --rule: #e1e7ec; }
@media (prefers-color-scheme: dark) {
  :root { --page: #0a0f14; --tile: #10161d; --text: #e8eef4; --faint: #93a3b3; --rule: #232d38; } }
body { margin: 0; background: var(--page); color: var(--text);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; }
main { max-width: 980px; margin: 0 auto; padding: 32px 20px 56px; }
h1 { font-size: 26px; margin: 0 0 4px; letter-spacing: -.01em; }
h2 { font-size: 17px; margin: 32px 0 10px; }
p { margin: 0 0 18px; color: var(--faint); max-width: 72ch; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(200px, 1fr)); gap: 12px; margin: 20px 0; }
.tile { background: var(--tile); border: 1px solid var(--rule); border-radius: 12px; padding: 12px 16px; }
.tile b { display: block; font-size: 24px; font-weight: 650; font-variant-numeric: tabular-nums;
  white-space: nowrap; }
.tile span { color: var(--faint); font-size: 13px; }
svg { width: 100%; height: auto; display: block; }
.scroll { overflow-x: auto; background: var(--tile); border: 1px solid var(--rule); border-radius: 12px; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: 8px 14px; text-align: right; border-bottom: 1px solid var(--rule); white-space: nowrap; }
th { font-size: 13px; font-weight: 600; color: var(--faint); }
tr:last-child td { border-bottom: 0; }
th:nth-child(2), td:nth-child(2) { text-align: left; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 4px 18px; margin: 0; font-size: 14px; }
dt { color: var(--faint); } dd { margin: 0; overflow-wrap: anywhere; }
)css";

}  // namespace

std::string page_begin(const std::string& title) {
  return "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" "
         "content=\"width=device-width\">\n<title>" +
         escaped(title) + "</title>\n<style>" + std::string(kPageStyle) + "</style>\n<main>\n<h1>" +
         escaped(title) + "</h1>\n";
}

std::string page_end() { return "</main>\n</html>\n"; }

std::string page_tile(const std::string& value, const std::string& name) {
  return "<div class=\"tile\"><b>" + escaped(value) + "</b><span>" + escaped(name) +
         "</span></div>\n";
}

std::string settings_list(const std::vector<std::pair<std::string, std::string>>& settings) {
  std::string text = "<h2>Settings</h2>\n<dl>\n";
  for (const auto& [name, value] : settings)
    text += "<dt>" + escaped(name) + "</dt><dd>" + escaped(value) + "</dd>\n";
  return text + "</dl>\n";
}

}  // namespace aurora
