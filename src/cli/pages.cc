// aurora-pages man|bash: aurora.1, or the completion for bash, from the tables of all commands. Run
// by the build (cmake/package.cmake installs what it prints).
#include <cstdio>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "cli/command_lines.h"

namespace aurora {
namespace {

// Text for troff: a dash that is typed, a backslash, and no request at the beginning of a line.
std::string troff(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '-') out += "\\-";
    else if (c == '\\') out += "\\e";
    else if (c == '\'') out += "\\(aq";
    else if (c == '`') out += "\\(ga";
    else if (c == '^') out += "\\(ha";
    else out += c;
  }
  return out.starts_with('.') ? "\\&" + out : out;
}

std::string paragraph(const Flag& flag) {
  std::string out = ".TP\n\\fB" + troff(flag.names) + "\\fR";
  if (!flag.value.empty()) out += " \\fI" + troff(flag.value) + "\\fR";
  std::string what = flag.what;
  if (!flag.range.empty()) what += " (" + flag.range + ")";
  out += "\n" + troff(what) + ".";
  if (!flag.otherwise.empty()) out += "\nDefault: " + troff(flag.otherwise) + ".";
  return out + "\n";
}

std::string man_page(const std::vector<CommandLine>& all) {
  std::string out =
      ".TH AURORA 1 \"\" \"aurora " AURORA_VERSION
      "\" \"User Commands\"\n"
      ".SH NAME\naurora \\- llama\\-server with a draft model that learns from its traffic\n"
      ".SH SYNOPSIS\n.B aurora\n.I COMMAND\n[flags]\n"
      ".SH DESCRIPTION\n"
      "Speculative decoding whose draft is trained, while it serves, on the traffic of the "
      "server.\n"
      "A flag takes its value as \\fB\\-\\-flag\\fR \\fIvalue\\fR or "
      "\\fB\\-\\-flag=\\fR\\fIvalue\\fR; the last one counts.\n"
      "What cannot be is refused with one sentence and exit code 2.\n";
  for (const CommandLine& line : all) {
    out += ".SH \"" + troff(line.name) + "\"\n.B " + troff(line.name) + "\n" + troff(line.usage) +
           "\n.PP\n" + troff(line.about) + "\n";
    for (const Flag& flag : line.flags) out += paragraph(flag);
  }
  return out +
         ".SH FILES\n.TP\n.I $STATE_DIRECTORY/TARGET, $XDG_STATE_HOME/aurora/TARGET or "
         "~/.local/state/aurora/TARGET\n"
         "The state folder of a target: traces/, drafts/, trainer.ckpt, trainer.status.\n"
         ".SH ENVIRONMENT\n.TP\n.B AURORA_API_KEY, LLAMA_API_KEY\nThe API key of a server that is "
         "asked.\n";
}

// "serve", "drafts list": the name without the program.
std::string key_of(const CommandLine& line) { return line.name.substr(line.name.find(' ') + 1); }

std::string bash(const std::vector<CommandLine>& all) {
  std::map<std::string, std::string> nested;  // "drafts" -> "list show ..."
  std::string commands, flags, values;
  for (const CommandLine& line : all) {
    const std::string key = key_of(line);
    const size_t space = key.find(' ');
    const std::string first = key.substr(0, space);
    if (nested.find(first) == nested.end()) commands += first + " ";
    std::string& under = nested[first];
    if (space != std::string::npos) under += key.substr(space + 1) + " ";
    flags += "    '" + key + "') flags='";
    for (const Flag& flag : line.flags) {
      for (const std::string& name : names_of(flag)) flags += name + " ";
      std::string words;
      for (const std::string& word : words_of(flag)) words += word + " ";
      if (!words.empty())
        values += "    '" + key + " " + names_of(flag).back() + "') words='" + words + "' ;;\n";
    }
    flags += "' ;;\n";
  }
  std::string under;
  for (const auto& [name, words] : nested)
    if (!words.empty()) under += "      " + name + ") words='" + words + "' ;;\n";
  return "# Completion of aurora for bash; made from the tables that parse its flags.\n"
         "_aurora() {\n"
         "  local current=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} words= "
         "flags= key\n"
         "  if ((COMP_CWORD == 1)); then\n"
         "    words='" +
         commands +
         "'\n"
         "  else\n"
         "    key=${COMP_WORDS[1]}\n"
         "    case $key in\n" +
         under +
         "    esac\n"
         "    if [[ $words && $COMP_CWORD -gt 2 ]]; then key+=\" ${COMP_WORDS[2]}\" words=; fi\n"
         "    if [[ ! $words ]]; then\n"
         "      case $key in\n" +
         flags +
         "      esac\n"
         "      case \"$key $before\" in\n" +
         values +
         "      esac\n"
         "      [[ $words || $current != -* ]] || words=$flags\n"
         "    fi\n"
         "  fi\n"
         "  mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$current\")\n"
         "}\n"
         "complete -o default -F _aurora aurora\n";
}

}  // namespace
}  // namespace aurora

int main(int argc, char** argv) {
  const bool man = argc == 2 && std::strcmp(argv[1], "man") == 0;
  if (!man && (argc != 2 || std::strcmp(argv[1], "bash") != 0)) {
    std::fputs("usage: aurora-pages man|bash\n", stderr);
    return 2;
  }
  const auto all = aurora::all_command_lines();
  std::fputs((man ? aurora::man_page(all) : aurora::bash(all)).c_str(), stdout);
  return 0;
}
