// What the translator writes, and the sources it refuses.

#include <gtest/gtest.h>

#include "translator.h"

namespace {

std::string translated(const std::string& source) {
  return translate::translate("# 1 \"a.metal\"\n" + source, {"a.metal", 1, 2});
}

void expect_refused(const std::string& source, const std::string& message) {
  try {
    translated(source);
  } catch (const translate::SourceError& error) {
    EXPECT_NE(std::string(error.what()).find(message), std::string::npos) << error.what();
    EXPECT_EQ(std::string(error.what()).rfind("a.metal:", 0), 0u) << error.what();
    return;
  }
  ADD_FAILURE() << "not refused: " << source;
}

void expect_becomes(const std::string& source, const std::string& part) {
  const std::string out = translated(source);
  EXPECT_NE(out.find(part), std::string::npos) << "'" << part << "' is not in:\n" << out;
}

TEST(ShaderTranslate, AddressSpaces) {
  expect_becomes("float f(device const float* p);",
                 "f(::emulator::Pointer<::emulator::Space::kDevice, const float> p)");
  expect_becomes("float f(const constant uint &n);", "f(const uint &n)");
  expect_becomes("void f(thread float* p, threadgroup half4 * q);",
                 "f(float* p, ::emulator::Pointer<::emulator::Space::kThreadgroup, half4> q)");
  expect_becomes("void f(constant const int shape[3]);",
                 "f(::emulator::Pointer<::emulator::Space::kConstant, const int> shape)");
  expect_becomes("template <class T> void f(device vec<T, 4>* p);",
                 "Pointer<::emulator::Space::kDevice, vec<T, 4>> p");
  expect_becomes("void f(threadgroup float (&tile)[4][8]);",
                 "const ::emulator::SharedArray<float, 4, 8>& tile");
  expect_becomes("constant constexpr int n = 3;", "static constexpr int n = 3;");
}

TEST(ShaderTranslate, Expressions) {
  expect_becomes("void f(device float* p, int i) { g(&p[i + 1]); }", "g(::emulator::element(p, i + 1))");
  expect_becomes("int f(int a, int b) { return a & b; }", "return a & b;");
  expect_becomes("bool f(int a) { return a &b[0]; }", "return a &b[0];");
  expect_becomes("void f(thread int& x) { g(&x); }", "g(&x)");
  expect_becomes("float x = 1.0 + 2e-3 + 0x1p-2 + .5f;", "1.0f + 2e-3f + 0x1p-2f + .5f");
  expect_becomes("half x = 1.5h;", "::metal::half(1.5f)");
  expect_becomes("void f(device int* p) { auto q = reinterpret_cast<device float*>(p); }",
                 "::emulator::pointer_cast<::emulator::Pointer<::emulator::Space::kDevice, float>>(p)");
  expect_becomes("int a = b >> 2;", "b >> 2");
}

TEST(ShaderTranslate, LinesAreKept) {
  const std::string out = translated("int a;\n\n# 20 \"b.h\" 2\nint b;\n");
  EXPECT_NE(out.find("#line 1 \"a.metal\"\nint a;\n\n#line 20 \"b.h\"\nint b;"), std::string::npos) << out;
}

TEST(ShaderTranslate, Refusals) {
  expect_refused("\ndouble x;", "a.metal:2: error: there is no double");
  expect_refused("void f() { threadgroup float x[4]; }", "in kernels only");
  expect_refused("kernel void f(device float* o [[buffer(0)]]) { threadgroup float x = 1; }",
                 "cannot have an initial value");
  expect_refused("kernel void f(device float* o [[buffer(0)]]) { device float x; }",
                 "cannot be declared in device memory");
  expect_refused("kernel int f(device float* o [[buffer(0)]]) { }", "a kernel returns void");
  expect_refused("kernel void f(float o [[buffer(0)]]) { }", "must be a device or constant pointer");
  expect_refused("kernel void f(uint i [[thread_position_on_the_moon]]) { }",
                 "a builtin known to the stand-in");
  expect_refused("struct S { device float* p [[id(0)]]; };", "argument buffers");
  expect_refused("fragment float4 f() { }", "only kernels");
  expect_refused(
      "template <class T> kernel void f(device T* o [[buffer(0)]]) { } template kernel void f<float>(device "
      "float*);",
      "needs [[host_name");
  expect_refused("template [[host_name(\"g\")]] kernel void f<float>(device float*);",
                 "instantiates no kernel template");
  expect_refused("bool f() { return is_function_constant_defined(x); }", "x is not a function constant");
  expect_refused("void f() { (", "never closed");
  expect_refused("void f() { int (*p)[4]; threadgroup float (*q)[4]; }", "pointers to arrays");
  expect_refused("int a = 0", "has no end");
}

}  // namespace
