#pragma once

/// The threads of the vendor's library: most builds of oneDNN cut a product for a team of OpenMP's. Candela
/// cuts products itself and has each piece computed by the thread that calls, so that no second team waits
/// for the first one's cores. These functions look up the OpenMP runtime that oneDNN brought into the
/// process; where there is none, they do nothing.
namespace candela::gemm_detail {

/// While it lives, a call of the vendor's library from this thread computes on this thread alone. The setting
/// that the host program has for its own parallel regions comes back at the end.
class OneVendorThread {
 public:
  OneVendorThread();
  ~OneVendorThread();
  OneVendorThread(const OneVendorThread&) = delete;
  OneVendorThread& operator=(const OneVendorThread&) = delete;

 private:
  int before_ = 0;
};

/// Lets the vendor's library use `count` threads of its own when this thread calls it: as a yardstick.
void set_vendor_threads(int count);
/// Ends those threads: else they spin for some milliseconds, on the cores of whatever is measured next.
void end_vendor_threads();

}  // namespace candela::gemm_detail
