// Exceptions in Objective-C++ frames. For the GCC runtime, clang gives every function of a .mm file the
// personality routine of libobjc, which knows nothing of C++ handlers: a C++ exception would pass a matching
// `catch` and end the process, and an Objective-C one would take a std::type_info for a class name. This
// definition takes its place for the program it is linked into (it is hidden, so GNUstep keeps libobjc's
// own). C++ exceptions go to libstdc++'s routine; Objective-C ones are matched here against class names and
// `catch (...)`. A C++ exception cannot pass a frame that has @catch clauses (libstdc++'s routine would take
// a class name for a type_info): that ends the process with a message.

#include <cstdint>
#include <cstdio>
#include <cstring>
// NOLINTBEGIN(bugprone-reserved-identifier,performance-no-int-to-ptr): the names and the addresses in tables
// are the ABI's.

#include <objc/runtime.h>
#include <typeinfo>
#include <unwind.h>

namespace {

/// Reads the language-specific data area of a frame (the Itanium C++ ABI's exception tables).
class Reader {
 public:
  explicit Reader(const std::uint8_t* position) : position_(position) {}
  const std::uint8_t* position() const { return position_; }
  std::uint8_t byte() { return *position_++; }

  std::uint64_t uleb() {
    std::uint64_t value = 0;
    for (unsigned shift = 0;; shift += 7) {
      const std::uint8_t next = byte();
      value |= std::uint64_t{next & 0x7fu} << shift;
      if (!(next & 0x80)) return value;
    }
  }

  std::int64_t sleb() {
    std::uint64_t value = 0;
    for (unsigned shift = 0;;) {
      const std::uint8_t next = byte();
      value |= std::uint64_t{next & 0x7fu} << shift;
      shift += 7;
      if (next & 0x80) continue;
      if ((next & 0x40) && shift < 64) value |= ~std::uint64_t{0} << shift;
      return static_cast<std::int64_t>(value);
    }
  }

  /// A pointer in one of the DWARF encodings.
  std::uintptr_t encoded(std::uint8_t encoding) {
    const std::uint8_t* start = position_;
    std::uintptr_t value = 0;
    switch (encoding & 0x0f) {
      case 0x00:
        value = fixed<std::uintptr_t>();
        break;
      case 0x01:
        value = uleb();
        break;
      case 0x02:
        value = fixed<std::uint16_t>();
        break;
      case 0x03:
        value = fixed<std::uint32_t>();
        break;
      case 0x04:
        value = fixed<std::uint64_t>();
        break;
      case 0x09:
        value = static_cast<std::uintptr_t>(sleb());
        break;
      case 0x0a:
        value = static_cast<std::uintptr_t>(std::intptr_t{fixed<std::int16_t>()});
        break;
      case 0x0b:
        value = static_cast<std::uintptr_t>(std::intptr_t{fixed<std::int32_t>()});
        break;
      default:
        value = fixed<std::uint64_t>();
        break;
    }
    if (value == 0) return 0;
    if ((encoding & 0x70) == 0x10)
      value += reinterpret_cast<std::uintptr_t>(start);  // relative to its own place
    if (encoding & 0x80) std::memcpy(&value, reinterpret_cast<const void*>(value), sizeof value);
    return value;
  }

  static unsigned size_of(std::uint8_t encoding) {
    switch (encoding & 0x0f) {
      case 0x02:
      case 0x0a:
        return 2;
      case 0x03:
      case 0x0b:
        return 4;
      default:
        return 8;
    }
  }

 private:
  template <class T>
  T fixed() {
    T value;
    std::memcpy(&value, position_, sizeof value);
    position_ += sizeof value;
    return value;
  }
  const std::uint8_t* position_;
};

/// What the frame's tables say about the call that is being unwound.
struct Handlers {
  std::uintptr_t landing_pad = 0;
  bool cleanup = false;
  bool class_names = false;  // some handler is an @catch
  std::int64_t match =
      0;  // filter value of the first handler that takes the object given; 0 if there is none
  bool match_by_name = false;  // it is an @catch, and not `catch (...)`
};

/// A type_info begins with the address of one of libstdc++'s few type_info tables; a class name begins with
/// its letters.
__attribute__((no_sanitize("address"))) bool is_type_info(std::uintptr_t entry) {
  struct Base {};
  struct Derived : Base {};
  struct Second {};
  struct Many : Base, Second {};
  enum Enumeration {};
  const std::type_info* known[] = {&typeid(int),  &typeid(int*),        &typeid(Base),   &typeid(Derived),
                                   &typeid(Many), &typeid(Enumeration), &typeid(int[1]), &typeid(int())};
  std::uintptr_t first;
  std::memcpy(&first, reinterpret_cast<const void*>(entry), sizeof first);
  for (const std::type_info* type : known) {
    std::uintptr_t table;
    std::memcpy(&table, static_cast<const void*>(type), sizeof table);
    if (table == first) return true;
  }
  return false;
}

/// True if `object` is of the class named, or the name stands for every class.
bool is_kind_of(id object, const char* name) {
  if (std::strcmp(name, "@id") == 0) return true;
  const Class wanted = static_cast<Class>(objc_getClass(name));
  for (Class each = object ? object_getClass(object) : Nil; each != Nil; each = class_getSuperclass(each))
    if (each == wanted) return true;
  return false;
}

/// `object` is the Objective-C exception, or null for one of another language.
Handlers handlers_of(_Unwind_Context* context, id object) {
  Handlers result;
  const auto* data = reinterpret_cast<const std::uint8_t*>(_Unwind_GetLanguageSpecificData(context));
  if (!data) return result;
  Reader header(data);
  const std::uint8_t base_encoding = header.byte();
  const std::uintptr_t function = _Unwind_GetRegionStart(context);
  const std::uintptr_t base = base_encoding == 0xff ? function : header.encoded(base_encoding);
  const std::uint8_t type_encoding = header.byte();
  const std::uint8_t* types = nullptr;
  if (type_encoding != 0xff) {
    const std::uint64_t distance = header.uleb();
    types = header.position() + distance;
  }
  const std::uint8_t site_encoding = header.byte();
  const std::uint64_t sites_length = header.uleb();
  const std::uint8_t* actions = header.position() + sites_length;

  int before = 0;
  std::uintptr_t place = _Unwind_GetIPInfo(context, &before);
  if (!before) --place;
  for (Reader site(header.position()); site.position() < actions;) {
    const std::uintptr_t start = function + site.encoded(site_encoding);
    const std::uintptr_t length = site.encoded(site_encoding);
    const std::uintptr_t pad = site.encoded(site_encoding);
    std::uint64_t action = site.uleb();
    if (place < start || place >= start + length) continue;
    if (pad == 0) return result;
    result.landing_pad = base + pad;
    result.cleanup = action == 0;
    while (action != 0) {
      Reader record(actions + action - 1);
      const std::int64_t filter = record.sleb();
      const std::uint8_t* next_from = record.position();
      const std::int64_t next = record.sleb();
      if (filter == 0) result.cleanup = true;
      if (filter > 0 && types) {
        Reader type(types - static_cast<std::uint64_t>(filter) * Reader::size_of(type_encoding));
        const std::uintptr_t entry = type.encoded(type_encoding);
        const bool by_name = entry != 0 && !is_type_info(entry);
        result.class_names |= by_name;
        const bool takes =
            entry == 0 || (by_name && object && is_kind_of(object, reinterpret_cast<const char*>(entry)));
        if (takes && result.match == 0) {
          result.match = filter;
          result.match_by_name = by_name;
        }
      }
      action = next == 0 ? 0 : static_cast<std::uint64_t>(next_from + next - actions) + 1;
    }
    return result;
  }
  return result;
}

constexpr _Unwind_Exception_Class kCppClass =
    0x474e5543432b2b00;  // "GNUCC++\0"; a dependent exception ends in 1
constexpr _Unwind_Exception_Class kObjcClass = 0x474e55434f424a43;  // "GNUCOBJC"

/// What libobjc throws: the object follows the unwinder's header.
struct ObjcException {
  _Unwind_Exception header;
  id object;
};

}  // namespace

extern "C" {

_Unwind_Reason_Code __gxx_personality_v0(int, _Unwind_Action, _Unwind_Exception_Class, _Unwind_Exception*,
                                         _Unwind_Context*);

__attribute__((visibility("hidden"))) _Unwind_Reason_Code __gnu_objc_personality_v0(
    int version, _Unwind_Action action, _Unwind_Exception_Class exception_class, _Unwind_Exception* exception,
    _Unwind_Context* context) {
  const bool is_objc = exception_class == kObjcClass;
  const id object = is_objc ? reinterpret_cast<ObjcException*>(exception)->object : nullptr;
  const Handlers handlers = handlers_of(context, object);
  if ((exception_class | 1) == (kCppClass | 1)) {
    if (!handlers.class_names)
      return __gxx_personality_v0(version, action, exception_class, exception, context);
    std::fputs(
        "emulator: a C++ exception meets a function with @catch clauses, which this runtime cannot pass\n",
        stderr);
    return action & _UA_SEARCH_PHASE ? _URC_FATAL_PHASE1_ERROR : _URC_FATAL_PHASE2_ERROR;
  }
  if (action & _UA_SEARCH_PHASE) return handlers.match ? _URC_HANDLER_FOUND : _URC_CONTINUE_UNWIND;
  const bool handler_frame = action & _UA_HANDLER_FRAME;
  if (!handler_frame && !handlers.cleanup) return _URC_CONTINUE_UNWIND;
  // A C++ handler begins with __cxa_begin_catch, which takes the header; an @catch takes the object, and the
  // header dies here.
  const bool give_object = handler_frame && handlers.match_by_name;
  const void* given = give_object ? static_cast<const void*>(object) : static_cast<const void*>(exception);
  if (give_object) _Unwind_DeleteException(exception);
  _Unwind_SetGR(context, __builtin_eh_return_data_regno(0), reinterpret_cast<_Unwind_Word>(given));
  _Unwind_SetGR(context, __builtin_eh_return_data_regno(1),
                handler_frame ? static_cast<_Unwind_Word>(handlers.match) : 0);
  _Unwind_SetIP(context, handlers.landing_pad);
  return _URC_INSTALL_CONTEXT;
}

}  // extern "C"

// NOLINTEND(bugprone-reserved-identifier,performance-no-int-to-ptr)
