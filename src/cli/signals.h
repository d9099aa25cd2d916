#pragma once

namespace candela::cli {

/// To be called first: standard streams that are closed are opened on nothing, so that no file takes their
/// place; a reader that has gone away and a file that grows too large (ulimit -f) become errors instead of
/// ending the process; a mapped file that becomes shorter ends it with an error.
void prepare_process();

/// While it lives, SIGINT, SIGTERM and SIGHUP are noted instead of ending the process; a second one ends it.
/// A SIGHUP that is ignored (nohup) stays so.
class StopSignals {
 public:
  StopSignals();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;
  ~StopSignals();

  /// From here on no further one ends the process: what was computed is being saved.
  void hold() const;

  /// The signal that came; 0: none.
  static int received();
  /// "SIGINT".
  static const char* name(int signal);
};

}  // namespace candela::cli
