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
                 "f(::emulator::Pointer<::emulator::Space::Device, const float> p)");
  expect_becomes("float f(const constant uint &n);", "f(const uint &n)");
  expect_becomes("void f(thread float* p, threadgroup half4 * q);",
                 "f(float* p, ::emulator::Pointer<::emulator::Space::Threadgroup, half4> q)");
  expect_becomes("void f(constant const int shape[3]);",
                 "f(::emulator::Pointer<::emulator::Space::Constant, const int> shape)");
  expect_becomes("template <class T> void f(device vec<T, 4>* p);",
                 "Pointer<::emulator::Space::Device, vec<T, 4>> p");
  expect_becomes("void f(threadgroup float (&tile)[4][8]);",
                 "const ::emulator::SharedArray<float, 4, 8>& tile");
  expect_becomes("constant constexpr int n = 3;", "static constexpr int n = 3;");
}

TEST(ShaderTranslate, Expressions) {
  expect_becomes("void f(device float* p, int i) { g(&p[i + 1]); }", "g(::emulator::element(p, i + 1))");
  expect_becomes("int f(int a, int b) { return a & b; }", "return a & b;");
  expect_becomes("bool f(int a) { return a &b[0]; }", "return a &b[0];");
  expect_becomes("void f(thread int& x) { g(&x); }", "g(&x)");
  expect_becomes("constant float x = 1.0 + 2e-3 + 0x1p-2 + .5f;", "1.0f + 2e-3f + 0x1p-2f + .5f");
  expect_becomes("constant half x = 1.5h;", "::metal::half(1.5f)");
  expect_becomes("void f(device int* p) { auto q = reinterpret_cast<device float*>(p); }",
                 "::emulator::pointer_cast<::emulator::Pointer<::emulator::Space::Device, float>>(p)");
  expect_becomes("int f(int b) { return b >> 2; }", "b >> 2");
}

TEST(ShaderTranslate, LinesAreKept) {
  const std::string out = translated("int a();\n\n# 20 \"b.h\" 2\nint b();\n");
  EXPECT_NE(out.find("#line 1 \"a.metal\"\nint a();\n\n#line 20 \"b.h\"\nint b();"), std::string::npos)
      << out;
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

/// As the body of a function.
void expect_body_refused(const std::string& body, const std::string& message) {
  expect_refused("void f(device float* o, int i) {\n" + body + "\n}", "a.metal:2: error: " + message);
}

TEST(ShaderTranslate, WhatMetalHasNotOfCpp) {
  expect_body_refused("auto g = [](float x) { return x; };", "there are no lambdas");
  expect_body_refused("o[0] = apply([=] { return 1.0f; });", "there are no lambdas");
  expect_body_refused("goto end;", "there is no goto");
  expect_body_refused("thread float* p = new float(2.0f);", "there is no new");
  expect_body_refused("delete p;", "there is no delete");
  expect_body_refused("if (i > 3) throw 1;", "there are no exceptions");
  expect_body_refused("o[0] = std::max(1.0f, 2.0f);", "the C++ standard library");
  expect_body_refused("long long n = 1;", "there is no long long");
  expect_body_refused("static int n = 0;", "a static variable must be in the constant address space");
  expect_refused("struct S { virtual float f(); };", "there are no virtual functions");
  expect_refused("thread_local int n;", "there is no thread_local");
  expect_refused("int n = 0;", "a variable at program scope must be in the constant address space");
  expect_refused("constexpr uint kSize = 3;",
                 "a variable at program scope must be in the constant address space");
  expect_refused("const float table[2] = {1.0f, 2.0f};", "must be in the constant address space");
  expect_refused("struct S { static constexpr int n = 3; };",
                 "a static member must be in the constant address space");
  expect_refused("void f(device bfloat* o);", "bfloat needs Metal 3.1");
  expect_refused("float f() { return 1.0bf; }", "bfloat needs Metal 3.1");
  expect_refused("kernel void f(device float* o [[buffer(0)]]) { threadgroup atomic_float x; }",
                 "atomic_float is for device memory only");
}

TEST(ShaderTranslate, WhatCameAfterCpp14) {
  expect_body_refused("if constexpr (sizeof(float) == 4) o[0] = 1.0f;", "if constexpr is C++17");
  expect_body_refused("auto [a, b] = pair;", "structured bindings are C++17");
  expect_body_refused("thread auto& [a, b] = pair;", "structured bindings are C++17");
  expect_refused("template <class... T> float f(T... x) { return (x + ...); }", "fold expressions are C++17");
  expect_refused("template <class... T> float f(T... x) { return (... + x); }", "fold expressions are C++17");
  expect_refused("namespace a::b { }", "nested namespaces in one are C++17");
  expect_refused("template <class T> concept Small = sizeof(T) < 4;", "concepts are C++20");
  expect_refused("template <class T> requires (sizeof(T) == 4) float f(T x);", "concepts are C++20");
}

TEST(ShaderTranslate, RecursionIsRefused) {
  expect_refused("float f(int n) { return n < 2 ? 1.0f : n * f(n - 1); }", "f calls itself");
  expect_refused("float g(int n); float f(int n) { return g(n); } float g(int n) { return f(n); }",
                 "calls itself");
  expect_becomes("float f(float x) { return x; } float f(int n) { return f(float(n)); }", "f(float(n))");
  expect_becomes("template <int N> struct S { int at(int i) { return s.at(i); } };", "s.at(i)");
}

TEST(ShaderTranslate, PointersAndReferencesNameTheirAddressSpace) {
  const std::string message = "a pointer or reference must name its address space";
  expect_refused("void f(float& x);", message);
  expect_refused("float f(const float* x) { return x[0]; }", message);
  expect_refused("template <class T> void f(T& x) { }", message);
  expect_refused("struct S { float* p; };", message);
  expect_refused("struct S { void f(S& other) { } };", message);
  expect_body_refused("float& x = o[0];", message);
  expect_body_refused("for (auto& x : values) x = 1.0f;", message);
  expect_becomes("struct S { S operator*(S x) const { return x; } };", "operator*(S x)");
  expect_becomes("float f(float a, float b) { return a * b; }", "a * b");
  expect_becomes("int f(int a, int b = 2 & 3) { a &= b; return a; }", "a &= b");
}

TEST(ShaderTranslate, IndicesAndAttributesOfParameters) {
  const auto refused = [](const std::string& parameters, const std::string& message) {
    expect_refused("kernel void f(" + parameters + ") { }", message);
  };
  refused("device float* a [[buffer(0)]], device float* b [[buffer(0)]]", "two parameters at [[buffer(0)]]");
  refused("threadgroup float* a [[threadgroup(2)]], threadgroup float* b [[threadgroup(2)]]",
          "two parameters at [[threadgroup(2)]]");
  refused("device float* a [[buffer(31)]]", "[[buffer(31)]] is too large: the last is 30");
  refused("uint2 at [[thread_position_in_grid]], uint n [[threads_per_threadgroup]]",
          "[[threads_per_threadgroup]] of f is uint and [[thread_position_in_grid]] is uint2");
  refused("uint2 at [[thread_position_in_grid]], ushort3 g [[threadgroup_position_in_grid]]",
          "must be scalars");
  translated(
      "kernel void f(device float* a [[buffer(30)]], uint2 g [[threadgroup_position_in_grid]], ushort2 n "
      "[[threads_per_threadgroup]], uint lane [[thread_index_in_simdgroup]]) { }");
}

}  // namespace
