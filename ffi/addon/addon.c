/*
 * A Node addon that calls C functions with integers and pointers, for the
 * versions of Node that do not have node:ffi. scripts/addon.ts compiles it.
 *
 * JavaScript sees two functions:
 *
 *   bind(library, name, signature)   returns the function of a library. The
 *                                    empty name is the program itself.
 *   errno()                          returns the error number, as the last
 *                                    bound function of this thread left it.
 *
 * If these functions change, so must INTERFACE in load.ts.
 *
 * A signature is a text: first the type of the result, then the types of the
 * parameters. i: int32_t, l: int64_t, u: uint64_t, b: a pointer to the bytes of
 * a Uint8Array.
 *
 * There are no headers, so that every target compiles with the same compiler,
 * and no library is linked on Linux, so that one binary suits glibc and musl.
 */

typedef signed int i32;
typedef signed long long i64;
typedef unsigned long long u64;
#ifdef _WIN64
typedef unsigned long long size;
#else
typedef unsigned long size;
#endif

/* js_native_api_types.h of Node: handles are pointers, a status is an enum. */
typedef struct environment *env;
typedef struct object *value;
typedef struct arguments *info;
typedef value (*callback)(env, info);
typedef void (*finalizer)(env, void *data, void *hint);
typedef i32 status;
enum { napi_ok = 0, napi_uint8_array = 1 };

/* The functions of Node-API up to version 8, of which each Node has all. */
#define NODE_API(API)                                                         \
  API(napi_create_bigint_int64, (env, i64, value *))                          \
  API(napi_create_double, (env, double, value *))                             \
  API(napi_create_function,                                                   \
      (env, const char *, size, callback, void *, value *))                   \
  API(napi_create_int32, (env, i32, value *))                                 \
  API(napi_get_cb_info, (env, info, size *, value *, value *, void **))       \
  API(napi_get_typedarray_info,                                               \
      (env, value, i32 *, size *, void **, value *, size *))                  \
  API(napi_get_value_bigint_int64, (env, value, i64 *, _Bool *))              \
  API(napi_get_value_bigint_uint64, (env, value, u64 *, _Bool *))             \
  API(napi_get_value_double, (env, value, double *))                          \
  API(napi_get_value_string_utf8, (env, value, char *, size, size *))         \
  API(napi_is_detached_arraybuffer, (env, value, _Bool *))                    \
  API(napi_set_instance_data, (env, void *, finalizer, void *))               \
  API(napi_set_named_property, (env, value, const char *, value))             \
  API(napi_throw_error, (env, const char *, const char *))                    \
  API(napi_throw_type_error, (env, const char *, const char *))

#ifdef _WIN32

__declspec(dllimport) void *GetModuleHandleA(const char *name);
__declspec(dllimport) void *GetProcAddress(void *module, const char *name);
__declspec(dllimport) void *GetProcessHeap(void);
__declspec(dllimport) void *HeapAlloc(void *heap, i32 flags, size bytes);
__declspec(dllimport) i32 HeapFree(void *heap, i32 flags, void *memory);
__declspec(dllimport) i32 GetLastError(void);
__declspec(dllimport) void SetLastError(i32 error);

/* The compiler refers to it in every program that has floating-point code. */
i32 _fltused = 0;

#define EXPORT __declspec(dllexport)
/* Node may be in a program of any name, so no import table can name it. */
#define API(name, parameters) static status(*name) parameters;
NODE_API(API)
#undef API

static _Bool find_node(void) {
  void *program = GetModuleHandleA(0);
#define API(name, parameters)                                                 \
  if (!(name = (status(*) parameters)GetProcAddress(program, #name))) return 0;
  NODE_API(API)
#undef API
  return 1;
}

static void *allocate(size bytes) {
  return HeapAlloc(GetProcessHeap(), 0, bytes);
}
static void release(void *memory) { HeapFree(GetProcessHeap(), 0, memory); }

/* Finds libraries that are loaded already, so there is no search path. */
static void *find_function(const char *library, const char *name) {
  void *module = GetModuleHandleA(*library ? library : 0);
  return module ? GetProcAddress(module, name) : 0;
}

static i32 get_error(void) { return GetLastError(); }
static void set_error(i32 error) { SetLastError(error); }

#else

void *dlopen(const char *name, i32 flags);
void *dlsym(void *library, const char *name);
void *malloc(size bytes);
void free(void *memory);

#define EXPORT __attribute__((visibility("default")))
#define API(name, parameters) status name parameters;
NODE_API(API)
#undef API

static _Bool find_node(void) { return 1; }
static void *allocate(size bytes) { return malloc(bytes); }
static void release(void *memory) { free(memory); }

/* errno.h: the functions behind the macro; dlfcn.h: RTLD_NOW, RTLD_LOCAL */
#ifdef __APPLE__
i32 *__error(void);
#define errno (*__error())
enum { NOW_AND_LOCAL = 2 | 4 };
#else
i32 *__errno_location(void);
#define errno (*__errno_location())
enum { NOW_AND_LOCAL = 2 };
#endif

static void *find_function(const char *library, const char *name) {
  void *handle = dlopen(*library ? library : 0, NOW_AND_LOCAL);
  return handle ? dlsym(handle, name) : 0;
}

static i32 get_error(void) { return errno; }
static void set_error(i32 error) { errno = error; }

#endif

enum { MAX_PARAMETERS = 9, MAX_NAME = 64, MAX_PATH = 1024 };

/*
 * Every function is called with this type. All ABIs of 64-bit processors pass
 * the first integers and pointers in 64-bit registers or slots, the caller
 * removes them, and a function does not look at arguments that it does not
 * have. Apple's arm64 has 8 registers and packs further parameters, so there
 * only the 9th argument may be on the stack, and must have 64 bits: that is the
 * variadic argument of fcntl(2), behind 6 zeros.
 */
typedef i64 (*function)(i64, i64, i64, i64, i64, i64, i64, i64, i64);

/* A bound function. */
struct bound {
  struct bound *next;
  struct instance *instance;
  function pointer;
  char result;
  unsigned char count;
  char parameters[MAX_PARAMETERS];
  char name[MAX_NAME];
};

/* What belongs to one thread of JavaScript and one copy of the package. */
struct instance {
  struct bound *functions;
  i32 error;
};

/* Any address. C functions may reject NULL, even with a length of 0. */
static const char nothing[1];

static char *append(char *end, const char *text) {
  while (*text) *end++ = *text++;
  *end = 0;
  return end;
}

/* Throws "NAME(): argument NUMBER EXPECTED". */
static value reject(env env, const struct bound *bound, size index) {
  char message[MAX_NAME + 80], number[2] = {(char)('1' + index), 0};
  char type = bound->parameters[index];
  char *end = append(append(message, bound->name), "(): argument ");
  append(append(end, number),
         type == 'b'   ? " must be a Uint8Array that is not detached"
         : type == 'i' ? " must be an integer of 32 bits"
         : type == 'l' ? " must be an integer of 64 bits"
                       : " must be an integer of 64 bits, not negative");
  napi_throw_type_error(env, 0, message);
  return 0;
}

static _Bool get_integer(env env, value from, char type, i64 *to) {
  double number;
  if (napi_get_value_double(env, from, &number) == napi_ok) {
    double limit = type == 'i' ? 2147483647.0 : 9007199254740991.0;
    double least = type == 'u' ? 0 : type == 'i' ? -limit - 1 : -limit;
    /* Comparisons with NaN are false. */
    if (!(number >= least && number <= limit)) return 0;
    *to = (i64)number;
    return (double)*to == number;
  }
  _Bool exact;
  status result =
      type == 'l'   ? napi_get_value_bigint_int64(env, from, to, &exact)
      : type == 'u' ? napi_get_value_bigint_uint64(env, from, (u64 *)to, &exact)
                    : !napi_ok;
  return result == napi_ok && exact;
}

/*
 * A view that is empty gets an address, because the one of V8 may be NULL. That
 * includes a view that is out of the bounds of its resized buffer. No JavaScript
 * can run and detach or resize the buffer before the function is called.
 */
static _Bool get_pointer(env env, value from, i64 *to) {
  i32 type;
  size length;
  void *data;
  value buffer;
  if (napi_get_typedarray_info(env, from, &type, &length, &data, &buffer, 0) !=
          napi_ok ||
      type != napi_uint8_array) {
    return 0;
  }
  if (length > 0) {
    *to = (i64)data;
    return data != 0;
  }
  _Bool detached;
  *to = (i64)nothing;
  return napi_is_detached_arraybuffer(env, buffer, &detached) == napi_ok &&
         !detached;
}

static value from_integer(env env, i64 from, char type) {
  const i64 safe = 9007199254740991;
  value result = 0;
  if (type == 'i' || from == (i32)from) {
    napi_create_int32(env, (i32)from, &result);
  } else if (from >= -safe && from <= safe) {
    napi_create_double(env, (double)from, &result);
  } else {
    napi_create_bigint_int64(env, from, &result);
  }
  return result;
}

/* Calls the bound function that is the data of this callback. */
static value call(env env, info info) {
  value values[MAX_PARAMETERS];
  i64 a[MAX_PARAMETERS];
  size count = MAX_PARAMETERS;
  struct bound *bound;
  if (napi_get_cb_info(env, info, &count, values, 0, (void **)&bound) !=
      napi_ok) {
    return 0;
  }
  if (count != bound->count) {
    char message[MAX_NAME + 40];
    append(append(message, bound->name), "(): wrong number of arguments");
    napi_throw_type_error(env, 0, message);
    return 0;
  }
  for (size i = 0; i < MAX_PARAMETERS; i++) {
    a[i] = 0;
    if (i >= count) continue;
    char type = bound->parameters[i];
    if (type == 'b' ? !get_pointer(env, values[i], &a[i])
                    : !get_integer(env, values[i], type, &a[i])) {
      return reject(env, bound, i);
    }
  }
  /*
   * V8 and libuv change the number between two calls. It is restored for
   * functions that return it, such as GetLastError.
   */
  struct instance *instance = bound->instance;
  set_error(instance->error);
  i64 result =
      bound->pointer(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8]);
  instance->error = get_error();
  return from_integer(env, result, bound->result);
}

static _Bool is_type(char type) {
  return type == 'i' || type == 'l' || type == 'u' || type == 'b';
}

/* Reads a text that C can represent and that fits. */
static _Bool get_text(env env, value from, char *to, size capacity) {
  size length, end = 0;
  /* Without a buffer, the function returns the whole length. */
  if (napi_get_value_string_utf8(env, from, 0, 0, &length) != napi_ok ||
      length >= capacity ||
      napi_get_value_string_utf8(env, from, to, capacity, &length) != napi_ok) {
    return 0;
  }
  while (to[end]) end++;
  return end == length;
}

static value bind(env env, info info) {
  value values[3], result = 0;
  size count = 3;
  struct instance *instance;
  char library[MAX_PATH], name[MAX_NAME], signature[MAX_PARAMETERS + 2];
  if (napi_get_cb_info(env, info, &count, values, 0, (void **)&instance) !=
      napi_ok) {
    return 0;
  }
  _Bool valid = count == 3 &&
                get_text(env, values[0], library, sizeof library) &&
                get_text(env, values[1], name, sizeof name) &&
                get_text(env, values[2], signature, sizeof signature) &&
                (signature[0] == 'i' || signature[0] == 'l');
  size parameters = 0;
  while (valid && signature[parameters + 1]) {
    valid = is_type(signature[1 + parameters++]);
  }
  if (!valid) {
    napi_throw_type_error(env, 0, "bind(): wrong arguments");
    return 0;
  }
  function pointer = (function)find_function(library, name);
  if (!pointer) {
    char message[MAX_PATH + MAX_NAME + 40];
    char *end = append(append(message, "no function "), name);
    append(append(end, " in the library "), library);
    napi_throw_error(env, 0, message);
    return 0;
  }
  struct bound *bound = allocate(sizeof *bound);
  if (!bound) {
    napi_throw_error(env, 0, "out of memory");
    return 0;
  }
  bound->next = instance->functions;
  bound->instance = instance;
  bound->pointer = pointer;
  bound->result = signature[0];
  bound->count = (unsigned char)parameters;
  for (size i = 0; i < parameters; i++) {
    bound->parameters[i] = signature[i + 1];
  }
  append(bound->name, name);
  instance->functions = bound;
  napi_create_function(env, name, (size)-1, call, bound, &result);
  return result;
}

static value read_error(env env, info info) {
  struct instance *instance;
  if (napi_get_cb_info(env, info, 0, 0, 0, (void **)&instance) != napi_ok) {
    return 0;
  }
  return from_integer(env, instance->error, 'i');
}

static void free_instance(env env, void *data, void *hint) {
  (void)env, (void)hint;
  struct instance *instance = data;
  for (struct bound *bound = instance->functions, *next; bound; bound = next) {
    next = bound->next;
    release(bound);
  }
  release(instance);
}

static void add_function(env env, value exports, const char *name,
                         callback callback, void *data) {
  value function;
  if (napi_create_function(env, name, (size)-1, callback, data, &function) ==
      napi_ok) {
    napi_set_named_property(env, exports, name, function);
  }
}

EXPORT i32 node_api_module_get_api_version_v1(void) { return 8; }

/* Node calls it once in each thread that loads the file, and for each load. */
EXPORT value napi_register_module_v1(env env, value exports) {
  if (!find_node()) return 0;
  struct instance *instance = allocate(sizeof *instance);
  if (!instance) return 0;
  instance->functions = 0;
  instance->error = 0;
  if (napi_set_instance_data(env, instance, free_instance, 0) != napi_ok) {
    release(instance);
    return 0;
  }
  add_function(env, exports, "bind", bind, instance);
  add_function(env, exports, "errno", read_error, instance);
  return exports;
}
