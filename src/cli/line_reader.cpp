#include "cli/line_reader.h"

#include <unistd.h>

#include "cli/input.h"
#include "cli/output.h"

#ifdef CANDELA_LIBEDIT
#include <histedit.h>
#endif

namespace candela::cli {

#ifdef CANDELA_LIBEDIT

struct LineReader::Editor {
  explicit Editor() : line(el_init("candela", stdin, stdout, stderr)), history(history_init()) {
    HistEvent event;
    ::history(history, &event, H_SETSIZE, 1000);
    el_set(line, EL_PROMPT, &Editor::prompt_of);
    el_set(line, EL_CLIENTDATA, this);
    el_set(line, EL_EDITOR, "emacs");
    el_set(line, EL_SIGNAL, 1);
    el_set(line, EL_HIST, ::history, history);
  }
  ~Editor() {
    history_end(history);
    el_end(line);
  }
  Editor(const Editor&) = delete;
  Editor& operator=(const Editor&) = delete;

  static char* prompt_of(EditLine* line) {
    void* self = nullptr;
    el_get(line, EL_CLIENTDATA, &self);
    return static_cast<Editor*>(self)->prompt.data();
  }

  std::optional<std::string> read() {
    int count = 0;
    const char* text = el_gets(line, &count);
    if (!text || count <= 0) return std::nullopt;
    std::string result(text, static_cast<std::size_t>(count));
    if (result.back() == '\n') result.pop_back();
    HistEvent event;
    if (!result.empty()) ::history(history, &event, H_ENTER, text);
    return result;
  }

  EditLine* line;
  History* history;
  std::string prompt;
};

bool LineReader::can_edit() {
  return true;
}

#else

/// Without libedit there is nothing to keep.
struct LineReader::Editor {
  std::optional<std::string> read() { return std::nullopt; }
  std::string prompt;
};

bool LineReader::can_edit() {
  return false;
}

#endif

LineReader::LineReader() : interactive_(::isatty(STDIN_FILENO) != 0) {
  if (interactive_ && can_edit()) editor_ = std::make_unique<Editor>();
}

LineReader::~LineReader() = default;

std::optional<std::string> LineReader::read(const std::string& prompt) {
  if (editor_) {
    editor_->prompt = prompt;
    return editor_->read();
  }
  if (interactive_) {
    write_output(prompt);
    flush_output();
  }
  std::optional<std::string> line = read_input_line();
  if (line && !line->empty() && line->back() == '\r') line->pop_back();
  return line;
}

}  // namespace candela::cli
