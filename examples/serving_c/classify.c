// Classifies raw texts with an exported SavedModel: TensorFlow's C library, no Python.
//
//   classify SAVED_MODEL OPERATIONS TEXT...
//
// SAVED_MODEL is a version's directory, OPERATIONS the directory of TensorFlow Text's libraries of
// operations (tensorflow_text/python/ops of its wheel). For each text: label, tab, score.

#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tensorflow/c/c_api.h>
#include <tensorflow/c/tf_tstring.h>

static void check(int ok, const char *doing, const char *reason) {
  if (ok) return;
  fprintf(stderr, "classify: %s: %s\n", doing, reason);
  exit(1);
}

static void check_status(const TF_Status *status, const char *doing) {
  check(TF_GetCode(status) == TF_OK, doing, TF_Message(status));
}

// The names of a signature's tensors are in a MetaGraphDef, a protocol buffer, of which only fields
// of bytes (wire type 2) matter here.

typedef struct {
  const unsigned char *data, *end;
} Bytes;

enum { SIGNATURES = 5, INPUTS = 1, OUTPUTS = 2, NAME = 1, KEY = 1, VALUE = 2 };

static unsigned long long number(Bytes *bytes) {
  unsigned long long value = 0;
  for (int shift = 0; bytes->data < bytes->end && shift < 64; shift += 7) {
    unsigned char byte = *bytes->data++;
    value |= (unsigned long long)(byte & 127) << shift;
    if (byte < 128) break;
  }
  return value;
}

// Takes the next field off `message`; returns its number, or 0 at the end.
static int next_field(Bytes *message, Bytes *contents) {
  if (message->data >= message->end) return 0;
  unsigned long long tag = number(message), length = 0;
  switch (tag & 7) {
    case 0: number(message); break;
    case 1: length = 8; break;
    case 2: length = number(message); break;
    case 5: length = 4; break;
    default: return 0;
  }
  if (length > (unsigned long long)(message->end - message->data)) return 0;
  contents->data = message->data;
  contents->end = message->data += length;
  return (int)(tag >> 3);
}

static int field(Bytes message, int wanted, Bytes *contents) {
  for (int found; (found = next_field(&message, contents));)
    if (found == wanted) return 1;
  return 0;
}

// The value of `key` in the map that is field `map` of `message`.
static int entry(Bytes message, int map, const char *key, Bytes *value) {
  Bytes pair, name;
  for (int found; (found = next_field(&message, &pair));)
    if (found == map && field(pair, KEY, &name) && name.end - name.data == (long)strlen(key) &&
        !memcmp(name.data, key, strlen(key)))
      return field(pair, VALUE, value);
  return 0;
}

// An input or output of a signature; its tensor is called "operation:index".
static TF_Output tensor(TF_Graph *graph, Bytes signature, int direction, const char *key) {
  Bytes info, name;
  check(entry(signature, direction, key, &info) && field(info, NAME, &name), key, "not there");
  char operation[256] = {0};
  check(name.end - name.data < (long)sizeof operation, key, "its name is too long");
  memcpy(operation, name.data, name.end - name.data);
  char *colon = strrchr(operation, ':');
  check(colon != NULL, key, "its name has no index");
  *colon = 0;
  TF_Output output = {TF_GraphOperationByName(graph, operation), atoi(colon + 1)};
  check(output.oper != NULL, key, "not in the graph");
  return output;
}

int main(int argc, char **argv) {
  check(argc > 3, "usage", "classify SAVED_MODEL OPERATIONS TEXT...");
  char **texts = argv + 3;
  int64_t count = argc - 3;
  TF_Status *status = TF_NewStatus();

  char pattern[4096];
  glob_t libraries;
  snprintf(pattern, sizeof pattern, "%s/*.so", argv[2]);
  check(glob(pattern, 0, NULL, &libraries) == 0, pattern, "no libraries there");
  for (size_t i = 0; i < libraries.gl_pathc; i++) {
    TF_LoadLibrary(libraries.gl_pathv[i], status);
    check_status(status, libraries.gl_pathv[i]);
  }
  globfree(&libraries);

  const char *tags[] = {"serve"};
  TF_SessionOptions *options = TF_NewSessionOptions();
  TF_Graph *graph = TF_NewGraph();
  TF_Buffer *meta = TF_NewBuffer();
  TF_Session *session =
      TF_LoadSessionFromSavedModel(options, NULL, argv[1], tags, 1, graph, meta, status);
  check_status(status, argv[1]);

  Bytes content = {meta->data, (const unsigned char *)meta->data + meta->length}, signature;
  check(entry(content, SIGNATURES, "serving_default", &signature), "serving_default", "not there");
  TF_Output input = tensor(graph, signature, INPUTS, "text");
  TF_Output outputs[] = {tensor(graph, signature, OUTPUTS, "label"),
                         tensor(graph, signature, OUTPUTS, "score")};

  TF_Tensor *batch = TF_AllocateTensor(TF_STRING, &count, 1, count * sizeof(TF_TString));
  TF_TString *strings = TF_TensorData(batch);
  for (int64_t i = 0; i < count; i++) {
    TF_TString_Init(&strings[i]);
    TF_TString_Copy(&strings[i], texts[i], strlen(texts[i]));
  }
  TF_Tensor *answers[2] = {NULL, NULL};
  TF_SessionRun(session, NULL, &input, &batch, 1, outputs, answers, 2, NULL, 0, NULL, status);
  check_status(status, "run");

  const TF_TString *labels = TF_TensorData(answers[0]);
  const float *scores = TF_TensorData(answers[1]);
  for (int64_t i = 0; i < count; i++)
    printf("%.*s\t%.6f\n", (int)TF_TString_GetSize(&labels[i]),
           TF_TString_GetDataPointer(&labels[i]), scores[i]);

  for (int64_t i = 0; i < count; i++) TF_TString_Dealloc(&strings[i]);
  TF_DeleteTensor(batch);
  for (int i = 0; i < 2; i++) TF_DeleteTensor(answers[i]);
  TF_CloseSession(session, status);
  TF_DeleteSession(session, status);
  TF_DeleteBuffer(meta);
  TF_DeleteGraph(graph);
  TF_DeleteSessionOptions(options);
  TF_DeleteStatus(status);
  return 0;
}
