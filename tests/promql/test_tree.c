/* test_tree.c - the tree as JSON, as /api/v1/parse_query gives it. The trees are Prometheus's own. */
#include "tests/support/test.h"

#include "promql/promql.h"

static const struct pql_features everything = {
    .experimental_functions = true, .binop_fill = true, .extended_range = true};

// clang-format off
static const struct {
    const char *text, *want; /* with ' for " */
} trees[] = {
    { "1.5e3",
      "{'type':'numberLiteral','val':'1500'}" },
    { "\"a<b\\n\"",
      "{'type':'stringLiteral','val':'a<b\\n'}" },
    { "up{job!=\"x\",path=~\"/a.*\"} @ 12.5 offset -1m",
      "{'anchored':false,'matchers':[{'name':'job','type':'!=','value':'x'},{'name':'path','type':'=~',"
      "'value':'/a.*'},{'name':'__name__','type':'=','value':'up'}],'name':'up','offset':-60000,"
      "'offsetExpr':null,'smoothed':false,'startOrEnd':null,'timestamp':12500,'type':'vectorSelector'}" },
    { "{\"my.metric\",l!~\"v\"}",
      "{'anchored':false,'matchers':[{'name':'__name__','type':'=','value':'my.metric'},{'name':'l',"
      "'type':'!~','value':'v'}],'name':'','offset':0,'offsetExpr':null,'smoothed':false,"
      "'startOrEnd':null,'timestamp':null,'type':'vectorSelector'}" },
    { "x offset +step()",
      "{'anchored':false,'matchers':[{'name':'__name__','type':'=','value':'x'}],'name':'x','offset':0,"
      "'offsetExpr':{'lhs':null,'op':'+','rhs':{'lhs':null,'op':'step','rhs':null,'type':'durationExpr',"
      "'wrapped':false},'type':'durationExpr','wrapped':false},'smoothed':false,'startOrEnd':null,"
      "'timestamp':null,'type':'vectorSelector'}" },
    { "rate(x[5m] @ end() offset 30s)",
      "{'args':[{'anchored':false,'matchers':[{'name':'__name__','type':'=','value':'x'}],'name':'x',"
      "'offset':30000,'offsetExpr':null,'range':300000,'rangeExpr':null,'smoothed':false,"
      "'startOrEnd':'end','timestamp':null,'type':'matrixSelector'}],'func':{'argTypes':['matrix'],"
      "'name':'rate','returnType':'vector','variadic':0},'type':'call'}" },
    { "topk without (a) (3, -(b))",
      "{'expr':{'expr':{'expr':{'anchored':false,'matchers':[{'name':'__name__','type':'=',"
      "'value':'b'}],'name':'b','offset':0,'offsetExpr':null,'smoothed':false,'startOrEnd':null,"
      "'timestamp':null,'type':'vectorSelector'},'type':'parenExpr'},'op':'-','type':'unaryExpr'},"
      "'grouping':['a'],'op':'topk','param':{'type':'numberLiteral','val':'3'},'type':'aggregation',"
      "'without':true}" },
    { "a * on (x) group_left (y) b",
      "{'bool':false,'lhs':{'anchored':false,'matchers':[{'name':'__name__','type':'=','value':'a'}],"
      "'name':'a','offset':0,'offsetExpr':null,'smoothed':false,'startOrEnd':null,'timestamp':null,"
      "'type':'vectorSelector'},'matching':{'card':'many-to-one','fillValues':{'lhs':null,'rhs':null},"
      "'include':['y'],'labels':['x'],'on':true},'op':'*','rhs':{'anchored':false,"
      "'matchers':[{'name':'__name__','type':'=','value':'b'}],'name':'b','offset':0,'offsetExpr':null,"
      "'smoothed':false,'startOrEnd':null,'timestamp':null,'type':'vectorSelector'},"
      "'type':'binaryExpr'}" },
    { "a and ignoring () b",
      "{'bool':false,'lhs':{'anchored':false,'matchers':[{'name':'__name__','type':'=','value':'a'}],"
      "'name':'a','offset':0,'offsetExpr':null,'smoothed':false,'startOrEnd':null,'timestamp':null,"
      "'type':'vectorSelector'},'matching':{'card':'many-to-many','fillValues':{'lhs':null,'rhs':null},"
      "'include':[],'labels':[],'on':false},'op':'and','rhs':{'anchored':false,"
      "'matchers':[{'name':'__name__','type':'=','value':'b'}],'name':'b','offset':0,'offsetExpr':null,"
      "'smoothed':false,'startOrEnd':null,'timestamp':null,'type':'vectorSelector'},"
      "'type':'binaryExpr'}" },
    { "a + fill_right (0) b",
      "{'bool':false,'lhs':{'anchored':false,'matchers':[{'name':'__name__','type':'=','value':'a'}],"
      "'name':'a','offset':0,'offsetExpr':null,'smoothed':false,'startOrEnd':null,'timestamp':null,"
      "'type':'vectorSelector'},'matching':{'card':'one-to-one','fillValues':{'lhs':null,'rhs':0},"
      "'include':[],'labels':[],'on':false},'op':'+','rhs':{'anchored':false,"
      "'matchers':[{'name':'__name__','type':'=','value':'b'}],'name':'b','offset':0,'offsetExpr':null,"
      "'smoothed':false,'startOrEnd':null,'timestamp':null,'type':'vectorSelector'},"
      "'type':'binaryExpr'}" },
    { "1 < bool 2",
      "{'bool':true,'lhs':{'type':'numberLiteral','val':'1'},'matching':null,'op':'<',"
      "'rhs':{'type':'numberLiteral','val':'2'},'type':'binaryExpr'}" },
    { "avg_over_time((a)[1h:5m] @ start())",
      "{'args':[{'expr':{'expr':{'anchored':false,'matchers':[{'name':'__name__','type':'=',"
      "'value':'a'}],'name':'a','offset':0,'offsetExpr':null,'smoothed':false,'startOrEnd':null,"
      "'timestamp':null,'type':'vectorSelector'},'type':'parenExpr'},'offset':0,'offsetExpr':null,"
      "'range':3600000,'rangeExpr':null,'startOrEnd':'start','step':300000,'stepExpr':null,"
      "'timestamp':null,'type':'subquery'}],'func':{'argTypes':['matrix'],'name':'avg_over_time',"
      "'returnType':'vector','variadic':0},'type':'call'}" },
    { "x[(5m) + -step() * 2] offset (1)",
      "{'anchored':false,'matchers':[{'name':'__name__','type':'=','value':'x'}],'name':'x','offset':0,"
      "'offsetExpr':{'lhs':null,'op':'+','rhs':{'duration':false,'type':'numberLiteral','val':'1'},"
      "'type':'durationExpr','wrapped':true},'range':0,'rangeExpr':{'lhs':{'lhs':null,'op':'+',"
      "'rhs':{'duration':true,'type':'numberLiteral','val':'300'},'type':'durationExpr',"
      "'wrapped':true},'op':'+','rhs':{'lhs':{'lhs':null,'op':'-','rhs':{'lhs':null,'op':'step',"
      "'rhs':null,'type':'durationExpr','wrapped':false},'type':'durationExpr','wrapped':false},"
      "'op':'*','rhs':{'duration':false,'type':'numberLiteral','val':'2'},'type':'durationExpr',"
      "'wrapped':false},'type':'durationExpr','wrapped':false},'smoothed':false,'startOrEnd':null,"
      "'timestamp':null,'type':'matrixSelector'}" },
    { "round(x, time())",
      "{'args':[{'anchored':false,'matchers':[{'name':'__name__','type':'=','value':'x'}],'name':'x',"
      "'offset':0,'offsetExpr':null,'smoothed':false,'startOrEnd':null,'timestamp':null,"
      "'type':'vectorSelector'},{'args':[],'func':{'argTypes':[],'name':'time','returnType':'scalar',"
      "'variadic':0},'type':'call'}],'func':{'argTypes':['vector','scalar'],'name':'round',"
      "'returnType':'vector','variadic':1},'type':'call'}" },
    { "label_join(x, \"a\", \",\", \"b\")",
      "{'args':[{'anchored':false,'matchers':[{'name':'__name__','type':'=','value':'x'}],'name':'x',"
      "'offset':0,'offsetExpr':null,'smoothed':false,'startOrEnd':null,'timestamp':null,"
      "'type':'vectorSelector'},{'type':'stringLiteral','val':'a'},{'type':'stringLiteral','val':','},"
      "{'type':'stringLiteral','val':'b'}],'func':{'argTypes':['vector','string','string','string'],"
      "'name':'label_join','returnType':'vector','variadic':-1},'type':'call'}" },
    { "histogram_quantiles(x, \"q\", 0.5, 0.9)",
      "{'args':[{'anchored':false,'matchers':[{'name':'__name__','type':'=','value':'x'}],'name':'x',"
      "'offset':0,'offsetExpr':null,'smoothed':false,'startOrEnd':null,'timestamp':null,"
      "'type':'vectorSelector'},{'type':'stringLiteral','val':'q'},{'type':'numberLiteral',"
      "'val':'0.5'},{'type':'numberLiteral','val':'0.9'}],'func':{'argTypes':['vector','string',"
      "'scalar','scalar'],'name':'histogram_quantiles','returnType':'vector','variadic':9},"
      "'type':'call'}" },
    { "x[min_of(5m, range())] anchored",
      "{'anchored':true,'matchers':[{'name':'__name__','type':'=','value':'x'}],'name':'x','offset':0,"
      "'offsetExpr':null,'range':0,'rangeExpr':{'lhs':{'duration':true,'type':'numberLiteral',"
      "'val':'300'},'op':'min_of','rhs':{'lhs':null,'op':'range','rhs':null,'type':'durationExpr',"
      "'wrapped':false},'type':'durationExpr','wrapped':false},'smoothed':false,'startOrEnd':null,"
      "'timestamp':null,'type':'matrixSelector'}" },
};
// clang-format on

static void trees_are_as_prometheus_draws_them(void **state)
{
    (void)state;
    for (size_t i = 0; i < NX_COUNT(trees); i++) {
        struct arena *a = arena_new(0);
        const struct pql_expr *e;
        struct nx_err err;
        struct buf b;

        assert_ok(pql_parse(a, nx_slice_str(trees[i].text), &everything, &e, &err), &err);
        buf_init(&b, 0);
        pql_print_tree(&b, e);
        for (size_t k = 0; k < b.len; k++)
            if (b.ptr[k] == '"')
                b.ptr[k] = '\'';
        assert_buf(&b, trees[i].want, trees[i].text);
        buf_done(&b);
        pql_expr_done(e);
        arena_free(a);
    }
}

static void a_full_buffer_stops_it(void **state)
{
    struct arena *a = arena_new(0);
    const struct pql_expr *e;
    struct nx_err err;
    struct buf b;

    (void)state;
    assert_ok(pql_parse(a, nx_slice_str("sum(rate(a[5m])) / b"), &everything, &e, &err), &err);
    buf_init(&b, 64);
    pql_print_tree(&b, e);
    assert_int_equal(b.failed, NX_LIMIT);
    buf_done(&b);
    pql_expr_done(e);
    arena_free(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(trees_are_as_prometheus_draws_them),
        cmocka_unit_test(a_full_buffer_stops_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
